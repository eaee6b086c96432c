//! Seeded inputs.

use candle_core::{DType, Device, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A source of f64 tensors on one device.
pub struct Samples {
    rng: StdRng,
    device: Device,
}

impl Samples {
    /// The source of that seed.
    pub fn new(seed: u64, device: &Device) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), device: device.clone() }
    }

    /// Uniform in `low..high`, no two values closer than the step of a central difference.
    pub fn uniform(&mut self, dims: &[usize], low: f64, high: f64) -> Tensor {
        let count: usize = dims.iter().product();
        let values: Vec<f64> = (0..count).map(|_| self.rng.random_range(low..high)).collect();
        Tensor::from_vec(values, dims, &self.device).unwrap()
    }

    /// Uniform in ±2, at least 0.05 away from each of `kinks`.
    pub fn away_from(&mut self, dims: &[usize], kinks: &[f64]) -> Tensor {
        let count: usize = dims.iter().product();
        let near = |x: f64| kinks.iter().any(|kink| (x - kink).abs() < 0.05);
        let mut draw = || loop {
            let x = self.rng.random_range(-2.0..2.0);
            if !near(x) {
                return x;
            }
        };
        let values: Vec<f64> = (0..count).map(|_| draw()).collect();
        Tensor::from_vec(values, dims, &self.device).unwrap()
    }

    /// Values of one sign or the other that stay well apart from each other, also in bf16: a maximum is unique.
    pub fn distinct(&mut self, dims: &[usize]) -> Tensor {
        let count: usize = dims.iter().product();
        let mut values: Vec<f64> = (0..count).map(|i| (i as f64 - count as f64 / 2.) / 8.).collect();
        for i in (1..count).rev() {
            values.swap(i, self.rng.random_range(0..=i));
        }
        Tensor::from_vec(values, dims, &self.device).unwrap()
    }

    /// Class indices below `classes`.
    pub fn indices(&mut self, dims: &[usize], classes: u32) -> Tensor {
        let count: usize = dims.iter().product();
        let values: Vec<u32> = (0..count).map(|_| self.rng.random_range(0..classes)).collect();
        Tensor::from_vec(values, dims, &self.device).unwrap()
    }

    /// Multiples of 1/4 in ±2, which every dtype has, as the gradient that a check sends into an op.
    pub fn seed_gradient(&mut self, dims: &[usize]) -> Tensor {
        let count: usize = dims.iter().product();
        let values: Vec<f64> = (0..count).map(|_| f64::from(self.rng.random_range(-8..=8)) / 4.).collect();
        Tensor::from_vec(values, dims, &self.device).unwrap()
    }
}

/// The numbers of `t` as f64.
pub fn numbers(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}
