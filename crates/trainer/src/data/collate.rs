//! Putting the items of a batch together.

use candle_core::{DType, Device, Tensor};

use crate::{Batch, Error, Result};

/// Items that can be put together into a batch.
///
/// Tensors of one shape are stacked along a new first dimension; numbers become a tensor of one dimension; tuples are put
/// together field by field; strings become a vector. Implement it for a struct of your own field by field, or with [`stack`]
/// where all its fields are tensors.
///
/// ```
/// # fn main() -> trainer::Result<()> {
/// use trainer::candle_core::{Device, Tensor};
/// use trainer::data::Collate;
///
/// let item = |class: u32| Ok::<_, trainer::Error>((Tensor::new(&[1f32, 2.], &Device::Cpu)?, class));
/// let (x, classes) = Collate::collate(vec![item(0)?, item(2)?])?;
/// assert_eq!((x.dims(), classes.to_vec1::<u32>()?), (&[2, 2][..], vec![0, 2]));
/// # Ok(())
/// # }
/// ```
pub trait Collate: Sized {
    /// What a number of items becomes.
    type Batch: Batch;

    /// Puts items together, in their order.
    ///
    /// # Errors
    /// When they do not go together, or are none.
    fn collate(items: Vec<Self>) -> Result<Self::Batch>;
}

impl Collate for Tensor {
    type Batch = Tensor;

    fn collate(items: Vec<Self>) -> Result<Tensor> {
        check_dtypes(&items)?;
        Ok(Tensor::stack(&items, 0)?)
    }
}

/// candle's own message on two dtypes is about an operator that nobody wrote.
fn check_dtypes(items: &[Tensor]) -> Result<()> {
    let dtypes: Vec<DType> = items.iter().map(Tensor::dtype).collect();
    match dtypes.iter().find(|&dtype| *dtype != dtypes[0]) {
        Some(other) => {
            let (first, other) = (dtypes[0].as_str(), other.as_str());
            Err(Error::Other(format!("the first is of {first}, another of {other}").into()))
        }
        None => Ok(()),
    }
}

macro_rules! numbers {
    ($($type:ty)+) => {$(
        impl Collate for $type {
            type Batch = Tensor;

            fn collate(items: Vec<Self>) -> Result<Tensor> {
                let count = items.len();
                Ok(Tensor::from_vec(items, count, &Device::Cpu)?)
            }
        }
    )+};
}

numbers! { u8 u32 i64 f32 f64 }

impl Collate for String {
    type Batch = Vec<String>;

    fn collate(items: Vec<Self>) -> Result<Vec<String>> {
        Ok(items)
    }
}

impl Collate for () {
    type Batch = ();

    fn collate(_: Vec<Self>) -> Result<()> {
        Ok(())
    }
}

impl<A: Collate, B: Collate> Collate for (A, B) {
    type Batch = (A::Batch, B::Batch);

    fn collate(items: Vec<Self>) -> Result<Self::Batch> {
        let (a, b) = items.into_iter().unzip();
        Ok((A::collate(a)?, B::collate(b)?))
    }
}

impl<A: Collate, B: Collate, C: Collate> Collate for (A, B, C) {
    type Batch = (A::Batch, B::Batch, C::Batch);

    fn collate(items: Vec<Self>) -> Result<Self::Batch> {
        let (a, rest): (_, Vec<(B, C)>) = items.into_iter().map(|(a, b, c)| (a, (b, c))).unzip();
        let (b, c) = <(B, C)>::collate(rest)?;
        Ok((A::collate(a)?, b, c))
    }
}

/// Stacks structures of tensors: every tensor of the result is those at its place in the items, stacked along a new first
/// dimension. What is no tensor is the first item's.
///
/// # Errors
/// When there is no item, when the items do not have as many tensors each, or when tensors at one place differ in shape or
/// dtype.
pub fn stack<B: Batch>(items: Vec<B>) -> Result<B> {
    let mut places: Vec<Vec<Tensor>> = Vec::new();
    let count = items.len();
    let mut first = None;
    for (index, item) in items.into_iter().enumerate() {
        let mut place = 0;
        let item = item.map_tensors(&mut |tensor| {
            if index == 0 {
                places.push(Vec::with_capacity(count));
            }
            let more = || Error::Other("a later item has more tensors than the first".into());
            places.get_mut(place).ok_or_else(more)?.push(tensor.clone());
            place += 1;
            Ok(tensor)
        })?;
        if place < places.len() {
            return Err(Error::Other("a later item has fewer tensors than the first".into()));
        }
        first.get_or_insert(item);
    }
    let mut stacked = places.into_iter().map(Tensor::collate);
    let none = || Error::Other("there is no item to stack".into());
    first.ok_or_else(none)?.map_tensors(&mut |tensor| stacked.next().unwrap_or(Ok(tensor)))
}
