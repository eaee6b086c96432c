//! The frames of an event file: each record between its length and two checksums.
//!
//! A frame is the record's length (u64), the masked CRC-32C of these 8 bytes, the record, and the record's masked CRC-32C,
//! all little-endian.
//!
//! # Source
//! `tensorboard/summary/writer/record_writer.py`.

/// A record in its frame.
pub(super) fn frame(record: &[u8]) -> Vec<u8> {
    let length = (record.len() as u64).to_le_bytes();
    let mut frame = Vec::with_capacity(record.len() + 16);
    frame.extend(length);
    frame.extend(masked_crc(&length));
    frame.extend(record);
    frame.extend(masked_crc(record));
    frame
}

/// The records of a file, each with the place of its frame's first byte. Ends at the first frame that is torn or damaged.
pub(super) fn records(file: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        let (record, length) = first_record(file.get(start..)?)?;
        at += length;
        Some((start, record))
    })
}

/// The first record, and the length of its frame.
fn first_record(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (length, rest) = bytes.split_at_checked(8)?;
    let (length_crc, rest) = rest.split_at_checked(4)?;
    if length_crc != masked_crc(length) {
        return None;
    }
    let length = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
    let (record, rest) = rest.split_at_checked(length)?;
    (rest.get(..4)? == masked_crc(record)).then_some((record, length + 16))
}

/// A checksum that may itself be part of what a checksum is taken of.
fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}
