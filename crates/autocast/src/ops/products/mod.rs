//! Products of matrices and vectors, all made of `product`'s.

mod addmm;
mod einsum;
pub(crate) mod linear;
mod linear_add;
mod matmul;
pub(crate) mod product;

pub use addmm::{addbmm, addmm, addmv, addr, baddbmm};
pub use einsum::einsum;
pub use linear::linear;
pub use linear_add::linear_add;
pub use matmul::{bmm, chain_matmul, dot, linalg_vecdot, matmul, mm, mv, outer};
