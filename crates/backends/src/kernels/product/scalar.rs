//! The oracle, in f64.

/// `a · b` of `(m, k)` and `(k, n)`, all by rows.
pub fn product_scalar([m, k, n]: [usize; 3], a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut out = vec![0.; m * n];
    for (i, out) in out.chunks_exact_mut(n.max(1)).enumerate() {
        for l in 0..k {
            for (out, b) in out.iter_mut().zip(&b[l * n..(l + 1) * n]) {
                *out += a[i * k + l] * b;
            }
        }
    }
    out
}
