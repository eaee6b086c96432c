//! What is said of the machine: its processor and those of its instructions that decide how fast products are.

use std::fs;

/// Instructions that products are made of, as Linux calls them.
const INSTRUCTIONS: [&str; 6] = ["avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16"];

/// One line on the machine and the CPUs of it that are used.
pub(super) fn describe(cpus: &str) -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    format!("{}, CPUs {cpus}", processor(&info))
}

/// The processor, from what Linux says of it; elsewhere its architecture alone.
fn processor(info: &str) -> String {
    let field = |name: &str| {
        let (_, value) =
            info.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == name)?;
        Some(value.trim())
    };
    let mut text = field("model name").unwrap_or(std::env::consts::ARCH).to_owned();
    if let (Some(family), Some(model)) = (field("cpu family"), field("model")) {
        text += &format!(" (family {family}, model {model})");
    }
    let flags: Vec<&str> = field("flags").or(field("Features")).unwrap_or("").split(' ').collect();
    for name in INSTRUCTIONS.into_iter().filter(|name| flags.contains(name)) {
        text += &format!(", {name}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::processor;

    #[test]
    fn the_processor_is_named_with_what_it_multiplies_by() {
        let info = "cpu family\t: 25\nmodel\t\t: 1\nmodel name\t: A B\nflags\t\t: fpu avx avx2 fma\n";
        assert_eq!(processor(info), "A B (family 25, model 1), avx2");
        assert_eq!(processor(""), std::env::consts::ARCH);
    }
}
