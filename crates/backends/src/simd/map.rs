//! What is done to elements, of whatever type they are stored in, a block at a time: what is of the arithmetic's type is read and written
//! where it lies, the rest is brought there and back in the first-level cache.

use super::convert::Stored;
use super::{Simd, Work};
use crate::{Floats, Real};
use std::marker::PhantomData;

/// Elements of a block.
pub(crate) const BLOCK: usize = 64;

/// A block in the type of the arithmetic.
pub(crate) type Block<T> = [T; BLOCK];

/// Something that makes a block of others, of which the first has this index. The last one may have elements more than are
/// written, which are of no matter.
pub(crate) trait Blocks<T, const N: usize> {
    /// Makes it.
    fn make<S: Simd>(&self, simd: S, at: usize, from: [&Block<T>; N], to: &mut Block<T>);
}

/// The elements `to` of those of `x`.
pub(crate) struct Map<'a, T, X, Y, F> {
    x: &'a [X],
    to: &'a mut [Y],
    /// The index of the first.
    at: usize,
    of: F,
    arithmetic: PhantomData<T>,
}

impl<'a, T, X, Y, F: Blocks<T, 1>> Map<'a, T, X, Y, F> {
    /// Of slices of one length, which begin at an index.
    pub(crate) fn new(of: F, at: usize, x: &'a [X], to: &'a mut [Y]) -> Self {
        assert_eq!(x.len(), to.len(), "as many");
        Self { x, to, at, of, arithmetic: PhantomData }
    }
}

impl<T: Real, X: Stored<T>, Y: Stored<T>, F: Blocks<T, 1>> Work for Map<'_, T, X, Y, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (mut wide, mut made) = ([T::ZERO; BLOCK], [T::ZERO; BLOCK]);
        let (xs, x_rest) = self.x.as_chunks::<BLOCK>();
        let (tos, to_rest) = self.to.as_chunks_mut::<BLOCK>();
        let mut at = self.at;
        for (x, to) in xs.iter().zip(tos) {
            let x = seen(simd, x, &mut wide);
            write(simd, to, &mut made, |made| self.of.make(simd, at, [x], made));
            at += BLOCK;
        }
        if !x_rest.is_empty() {
            X::read(simd, x_rest, &mut wide[..x_rest.len()]);
            self.of.make(simd, at, [&wide], &mut made);
            Y::write(simd, &made[..to_rest.len()], to_rest);
        }
    }
}

/// The elements `to` of those of `x` and of `y` beside them, which is of a type that is known at run time: it is brought to that of the
/// arithmetic in any case, so that there is one function for all of its types.
pub(crate) struct Map2<'a, T, X, F> {
    x: &'a [X],
    y: Floats<'a>,
    to: &'a mut [X],
    at: usize,
    of: F,
    arithmetic: PhantomData<T>,
}

impl<'a, T, X, F: Blocks<T, 2>> Map2<'a, T, X, F> {
    /// Of slices of one length, which begin at an index.
    pub(crate) fn new(of: F, at: usize, x: &'a [X], y: Floats<'a>, to: &'a mut [X]) -> Self {
        assert!(x.len() == to.len() && y.len() == to.len(), "as many");
        Self { x, y, to, at, of, arithmetic: PhantomData }
    }
}

impl<T: Real, X: Stored<T>, F: Blocks<T, 2>> Work for Map2<'_, T, X, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (mut wide, mut beside, mut made) = ([T::ZERO; BLOCK], [T::ZERO; BLOCK], [T::ZERO; BLOCK]);
        let (xs, x_rest) = self.x.as_chunks::<BLOCK>();
        let (tos, to_rest) = self.to.as_chunks_mut::<BLOCK>();
        let (mut y, mut at) = (self.y, self.at);
        for (x, to) in xs.iter().zip(tos) {
            let (now, rest) = y.split_at(BLOCK);
            T::load(now, &mut beside);
            let x = seen(simd, x, &mut wide);
            write(simd, to, &mut made, |made| self.of.make(simd, at, [x, &beside], made));
            (y, at) = (rest, at + BLOCK);
        }
        if !x_rest.is_empty() {
            X::read(simd, x_rest, &mut wide[..x_rest.len()]);
            T::load(y, &mut beside[..x_rest.len()]);
            self.of.make(simd, at, [&wide, &beside], &mut made);
            X::write(simd, &made[..to_rest.len()], to_rest);
        }
    }
}

/// A block as it is, or as it is read into `wide`.
#[inline(always)]
fn seen<'a, T, X: Stored<T>, S: Simd>(simd: S, x: &'a [X; BLOCK], wide: &'a mut Block<T>) -> &'a Block<T> {
    if let Some(Ok(x)) = X::as_it_is(x).map(TryInto::try_into) {
        return x;
    }
    X::read(simd, x, wide);
    wide
}

/// Has a block made where it is to lie, or in `made` and written from there.
#[inline(always)]
fn write<T, Y: Stored<T>, S: Simd>(
    simd: S,
    to: &mut [Y; BLOCK],
    made: &mut Block<T>,
    make: impl FnOnce(&mut Block<T>),
) {
    if let Some(Ok(to)) = Y::in_place(to).map(TryInto::try_into) {
        return make(to);
    }
    make(made);
    Y::write(simd, made, to);
}

/// A function of one element, by itself.
pub(crate) struct Each<F>(pub(crate) F);

impl<T: Real, F: Fn(T) -> T> Blocks<T, 1> for Each<F> {
    #[inline(always)]
    fn make<S: Simd>(&self, _: S, _: usize, [x]: [&Block<T>; 1], to: &mut Block<T>) {
        for (to, &x) in to.iter_mut().zip(x) {
            *to = (self.0)(x);
        }
    }
}

impl<T: Real, F: Fn(T, T) -> T> Blocks<T, 2> for Each<F> {
    #[inline(always)]
    fn make<S: Simd>(&self, _: S, _: usize, [x, y]: [&Block<T>; 2], to: &mut Block<T>) {
        for ((to, &x), &y) in to.iter_mut().zip(x).zip(y) {
            *to = (self.0)(x, y);
        }
    }
}
