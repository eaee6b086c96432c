//! Tests that need the catalogue or the models, in one binary, which is linked once. What measures the heap of its process stands beside
//! this folder.

mod attention;
mod bad_batches;
mod cli;
mod conv;
mod empty;
mod evaluation;
mod images;
mod inverse;
mod kernel_list;
mod layers;
mod losses;
mod norms;
mod op_dtypes;
mod pointwise;
mod pool;
mod porting;
mod products;
mod randomness;
mod reductions;
mod seeds;
mod selection;
mod sixteen_bit;
mod sizes;
mod table;
mod tiny_gpt;
mod training;
mod ulp;
