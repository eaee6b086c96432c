//! When a pass is recorded: the forms that passes have, and how often each has come.

use candle_core::cuda::gemm_reduced_precision_f32;
use candle_core::{DType, Tensor, TensorId};

/// Passes of a form before it is recorded. In them libraries choose, kernels are loaded, and the pool grows.
const BEFORE: usize = 3;

/// The most recordings, each of which holds its gradients.
const MOST: usize = 4;

/// Forms that are counted at a time.
const COUNTED: usize = 32;

/// What a recording depends on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Form {
    pub(crate) optimizer: usize,
    pub(crate) batch: Vec<(DType, Vec<usize>)>,
    /// The buffers with writes that are held back.
    pub(crate) held: Vec<TensorId>,
    /// How many casts of parameters are no longer where they were.
    pub(crate) dropped: usize,
    /// Whether f32 is multiplied in TF32.
    pub(crate) rounds: bool,
}

impl Form {
    /// Of a pass over these tensors; `None` where one of them is not contiguous.
    pub(crate) fn of(tensors: &[Tensor]) -> Option<Self> {
        let batch = tensors.iter().map(|tensor| (tensor.dtype(), tensor.dims().to_vec())).collect();
        let contiguous = tensors.iter().all(Tensor::is_contiguous);
        contiguous.then(|| Self { batch, rounds: gemm_reduced_precision_f32(), ..Self::default() })
    }
}

/// What is done with the next pass of a form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Next {
    Queue,
    /// As what is recorded the next time.
    Rehearse,
    /// The place among the forms.
    Record(usize),
    Replay(usize),
}

pub(crate) enum Stage<R> {
    Seen(usize),
    Ready(Box<R>),
    Refused,
}

/// The recordings of a fit or an evaluation.
pub(crate) struct Recordings<R> {
    pub(crate) forms: Vec<(Form, Stage<R>)>,
    /// Whether it was told that something is not recorded.
    pub(crate) is_told: bool,
}

impl<R> Default for Recordings<R> {
    fn default() -> Self {
        Self { forms: Vec::new(), is_told: false }
    }
}

impl<R> Recordings<R> {
    /// What comes next for a form, and what there is to tell. A pass without a form is not recorded.
    pub(crate) fn next(&mut self, form: Option<Form>) -> (Next, Option<String>) {
        let Some(form) = form else {
            return (Next::Queue, Some("a tensor of a batch is not contiguous".into()));
        };
        let ready = self.forms.iter().filter(|(_, stage)| matches!(stage, Stage::Ready(_))).count();
        let Some(at) = self.forms.iter().position(|(known, _)| *known == form) else {
            let mut told = None;
            if self.forms.len() >= COUNTED {
                self.forms.retain(|(_, stage)| !matches!(stage, Stage::Seen(_)));
                told = Some(format!(
                    "more than {COUNTED} shapes came in turn: batches of one shape can be recorded"
                ));
            }
            self.forms.push((form, Stage::Seen(1)));
            return (Next::Queue, told);
        };
        match &mut self.forms[at].1 {
            Stage::Ready(_) => (Next::Replay(at), None),
            Stage::Refused => (Next::Queue, None),
            Stage::Seen(count) if *count >= BEFORE && ready < MOST => (Next::Record(at), None),
            Stage::Seen(count) if *count >= BEFORE => (
                Next::Queue,
                Some(format!("batches come in more than {MOST} shapes, and as many are recorded")),
            ),
            Stage::Seen(count) => {
                *count += 1;
                (if *count == BEFORE { Next::Rehearse } else { Next::Queue }, None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    type Recordings = super::Recordings<()>;

    fn form(len: usize) -> Form {
        Form::of(&[Tensor::zeros(len, DType::F32, &Device::Cpu).unwrap()]).unwrap()
    }

    #[test]
    fn a_form_is_recorded_after_passes_and_rehearsed_right_before() {
        let mut recordings = Recordings::default();
        let mut next = |len| recordings.next(Some(form(len))).0;
        let seen: Vec<Next> = (0..BEFORE + 1).map(|_| next(4)).collect();
        assert_eq!(seen, [Next::Queue, Next::Queue, Next::Rehearse, Next::Record(0)]);
        assert_eq!(next(5), Next::Queue, "another shape counts for itself");
    }

    #[test]
    fn whatever_a_pass_depends_on_makes_a_form_of_its_own() {
        let of = form(4);
        let id = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap().id();
        let others = [
            Form { optimizer: 1, ..of.clone() },
            Form { batch: vec![(DType::F16, vec![4])], ..of.clone() },
            Form { held: vec![id], ..of.clone() },
            Form { dropped: 1, ..of.clone() },
            Form { rounds: !of.rounds, ..of.clone() },
        ];
        let mut recordings = Recordings::default();
        recordings.next(Some(of));
        for (at, other) in others.into_iter().enumerate() {
            recordings.next(Some(other));
            assert_eq!(recordings.forms.len(), at + 2);
        }
    }

    #[test]
    fn shapes_without_end_are_told_of_and_take_no_memory() {
        let mut recordings = Recordings::default();
        let told: Vec<Option<String>> =
            (0..3 * COUNTED).map(|len| recordings.next(Some(form(len))).1).collect();
        assert!(told[..COUNTED].iter().all(Option::is_none), "{told:?}");
        assert!(told[COUNTED].as_ref().is_some_and(|why| why.contains("shapes")), "{told:?}");
        assert!(recordings.forms.len() <= COUNTED);
    }

    #[test]
    fn a_batch_that_is_not_contiguous_has_no_form() {
        let columns = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap().t().unwrap();
        assert!(Form::of(&[columns]).is_none());
        let (next, told) = Recordings::default().next(None);
        assert!(next == Next::Queue && told.is_some_and(|why| why.contains("contiguous")));
    }

    #[test]
    fn what_was_refused_is_not_tried_again() {
        let mut recordings = Recordings::default();
        (0..BEFORE).for_each(|_| drop(recordings.next(Some(form(4)))));
        recordings.forms[0].1 = Stage::Refused;
        assert_eq!(recordings.next(Some(form(4))), (Next::Queue, None));
    }
}
