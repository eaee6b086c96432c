//! `einsum`: sums of products named by letters, carried out as permutations and stacked matrix products.

use candle_core::Tensor;

use super::product::product;
use crate::dtypes::{same_dtype, unnamed};
use crate::ops::reduce::sums::summed;
use crate::ops::shape::broadcast::expand;
use crate::region::cast_slice;
use crate::{Error, Result};

const OP: &str = "einsum";

/// The sum of products that `equation` describes, such as `"bij,bjk->bik"`.
///
/// Operands are contracted from left to right. Without `->` the result has the letters that occur once, in alphabetic
/// order. A letter may stand for 1 in one operand and for more in another (it broadcasts).
///
/// # Errors
///
/// [`Error::InvalidArgument`] for an equation that is malformed, that repeats a letter within one operand or in the
/// result, or that uses `...`, and where the operands do not fit it or their dtypes differ after the region's rule was
/// applied.
///
/// # Source
///
/// `torch.einsum`.
pub fn einsum(equation: &str, operands: &[&Tensor]) -> Result<Tensor> {
    let equation = Equation::parse(equation)?;
    if equation.inputs.len() != operands.len() {
        let expected = format!("{} operands, as the equation has", equation.inputs.len());
        return Err(Error::argument(OP, "operands", operands.len(), expected));
    }
    let operands = cast_slice(OP, operands)?;
    same_dtype(OP, unnamed(&operands))?;
    let mut terms = Vec::with_capacity(operands.len());
    for (tensor, letters) in operands.into_iter().zip(&equation.inputs) {
        if tensor.rank() != letters.len() {
            let expected = format!("{} dimensions for '{}'", letters.len(), text(letters));
            return Err(Error::shape(OP, "an operand", tensor.dims(), expected));
        }
        terms.push(Term { tensor, letters: letters.clone() });
    }
    let mut terms = terms.into_iter();
    let mut done = terms.next().ok_or_else(|| Error::argument(OP, "operands", 0, "at least one"))?;
    while let Some(next) = terms.next() {
        let later = |letter: &char| {
            equation.output.contains(letter) || terms.as_slice().iter().any(|t| t.letters.contains(letter))
        };
        done = contract(done, next, &later)?;
    }
    let done = done.summed(&|letter| equation.output.contains(letter))?;
    done.permuted(&equation.output)
}

struct Equation {
    inputs: Vec<Vec<char>>,
    output: Vec<char>,
}

impl Equation {
    fn parse(text: &str) -> Result<Self> {
        let malformed = |why: &str| Error::argument(OP, "equation", format!("'{text}'"), why);
        let compact = text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        let (inputs, output) = match compact.split_once("->") {
            Some((inputs, output)) => (inputs, Some(output)),
            None => (compact.as_str(), None),
        };
        let letters = |part: &str| -> Result<Vec<char>> {
            let letters = part.chars().collect::<Vec<_>>();
            if !letters.iter().all(char::is_ascii_alphabetic) {
                return Err(malformed("letters, commas and at most one '->'"));
            }
            let repeated = (1..letters.len()).any(|i| letters[..i].contains(&letters[i]));
            if repeated {
                return Err(malformed("each letter at most once per operand and in the result"));
            }
            Ok(letters)
        };
        let inputs = inputs.split(',').map(letters).collect::<Result<Vec<_>>>()?;
        let uses = |letter: &char| inputs.iter().filter(|input| input.contains(letter)).count();
        let output = match output {
            Some(output) => letters(output)?,
            None => {
                let mut once =
                    inputs.iter().flatten().copied().filter(|letter| uses(letter) == 1).collect::<Vec<_>>();
                once.sort_unstable();
                once
            }
        };
        if output.iter().any(|letter| uses(letter) == 0) {
            return Err(malformed("no letter in the result that no operand has"));
        }
        Ok(Self { inputs, output })
    }
}

fn text(letters: &[char]) -> String {
    letters.iter().collect()
}

/// A tensor with a letter for each dimension.
struct Term {
    tensor: Tensor,
    letters: Vec<char>,
}

impl Term {
    fn size(&self, letter: char) -> Option<usize> {
        self.letters.iter().position(|&own| own == letter).map(|i| self.tensor.dims()[i])
    }

    /// Summed over the letters that `keep` does not want.
    fn summed(self, keep: &dyn Fn(&char) -> bool) -> Result<Self> {
        let gone = (0..self.letters.len()).filter(|&i| !keep(&self.letters[i])).collect::<Vec<_>>();
        let tensor = match gone.is_empty() {
            true => self.tensor,
            false => summed("einsum", &self.tensor, gone)?,
        };
        Ok(Self { tensor, letters: self.letters.into_iter().filter(|letter| keep(letter)).collect() })
    }

    /// With its dimensions in the order of `letters`, which are its own.
    fn permuted(&self, letters: &[char]) -> Result<Tensor> {
        let order = letters
            .iter()
            .filter_map(|letter| self.letters.iter().position(|own| own == letter))
            .collect::<Vec<_>>();
        Ok(self.tensor.permute(order)?)
    }

    /// With every dimension of 1 that is larger in `other` expanded to that.
    fn broadcast_with(&self, other: &Self) -> Result<Self> {
        let mut dims = self.tensor.dims().to_vec();
        for (dim, &letter) in dims.iter_mut().zip(&self.letters) {
            match other.size(letter) {
                Some(size) if *dim == 1 => *dim = size,
                Some(size) if size != *dim && size != 1 => {
                    let expected = format!("'{letter}' as long as in {:?}", self.tensor.dims());
                    return Err(Error::shape(OP, "an operand", other.tensor.dims(), expected));
                }
                _ => {}
            }
        }
        Ok(Self { tensor: expand(&self.tensor, &dims)?, letters: self.letters.clone() })
    }
}

/// The product of two terms, summed over the letters that nothing `later` needs.
fn contract(a: Term, b: Term, later: &dyn Fn(&char) -> bool) -> Result<Term> {
    let a = a.summed(&|letter| later(letter) || b.letters.contains(letter))?;
    let b = b.summed(&|letter| later(letter) || a.letters.contains(letter))?;
    let (a, b) = (a.broadcast_with(&b)?, b.broadcast_with(&a)?);
    let pick = |from: &Term, wanted: &dyn Fn(&char) -> bool| {
        from.letters.iter().copied().filter(|letter| wanted(letter)).collect::<Vec<_>>()
    };
    let in_both = |letter: &char| a.letters.contains(letter) && b.letters.contains(letter);
    let stack = pick(&a, &|letter| in_both(letter) && later(letter));
    let inner = pick(&a, &|letter| in_both(letter) && !later(letter));
    let rows = pick(&a, &|letter| !in_both(letter));
    let columns = pick(&b, &|letter| !in_both(letter));
    let size = |letters: &[char]| -> usize {
        letters.iter().filter_map(|&letter| a.size(letter).or_else(|| b.size(letter))).product()
    };
    let (batch, m, k, n) = (size(&stack), size(&rows), size(&inner), size(&columns));
    let lhs = a.permuted(&[stack.as_slice(), &rows, &inner].concat())?.reshape((batch, m, k))?;
    let rhs = b.permuted(&[stack.as_slice(), &inner, &columns].concat())?.reshape((batch, k, n))?;
    let letters = [stack, rows, columns].concat();
    let dims = letters.iter().filter_map(|&letter| a.size(letter).or_else(|| b.size(letter)));
    let tensor = product(&lhs, &rhs)?.reshape(dims.collect::<Vec<_>>())?;
    Ok(Term { tensor, letters })
}
