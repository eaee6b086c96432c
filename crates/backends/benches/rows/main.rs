//! What is done to rows and to elements, beside a copy of memory: for each kernel, type and size the rate at which it reads and
//! writes what it must, and the share that this is of the rate of a copy of as many bytes on the same threads, measured in turn with it.
//!
//! `cargo bench --workspace --bench rows -- [part of a line's name]…`: what has all the parts in its name is measured.

mod copy;
mod elements;
mod images;
mod number;
mod over_rows;
mod steps;

use copy::Beside;
use half::{bf16, f16};
use number::Number;

/// Rows and their elements.
#[derive(Clone, Copy)]
struct Size {
    rows: usize,
    width: usize,
}

impl Size {
    fn len(self) -> usize {
        self.rows * self.width
    }
}

/// What is measured.
struct Case {
    /// The bytes that are read and written at least.
    bytes: usize,
    run: Box<dyn FnMut()>,
}

impl Case {
    fn new(bytes: usize, run: impl FnMut() + 'static) -> Self {
        Self { bytes, run: Box::new(run) }
    }
}

/// A kernel's name, and what makes a case of it.
type Kernel = (&'static str, fn(Size) -> Case);

/// The tensors of a step of a small GPT, and one that no cache holds: bytes of an operand.
const BEYOND: usize = 24 << 20;

fn measured<T: Number>(parts: &[String]) {
    let beyond = Size { rows: BEYOND / size_of::<T>() / 1024, width: 1024 };
    let kernels =
        over_rows::kernels::<T>().into_iter().chain(elements::kernels::<T>()).chain(images::kernels::<T>());
    for (name, case) in kernels.chain(steps::kernels::<T>()) {
        for size in [Size { rows: 2048, width: 256 }, Size { rows: 2048, width: 1024 }, beyond] {
            let line = format!("{name} {} {}x{}", T::NAME, size.rows, size.width);
            if parts.iter().all(|part| line.contains(part)) {
                let Case { bytes, mut run } = case(size);
                println!("{line:<46} {}", Beside::measured(bytes, &mut run));
            }
        }
    }
}

fn main() {
    // As a fit does.
    backends::join_pool();
    backends::keep_memory();
    let parts: Vec<String> = std::env::args().skip(1).filter(|part| part != "--bench").collect();
    println!("{:<46} {}", "kernel", Beside::HEAD);
    measured::<f32>(&parts);
    measured::<bf16>(&parts);
    measured::<f16>(&parts);
    measured::<f64>(&parts);
}
