//! The graph under candle's tensors: its gradients are candle's, whatever stands between its nodes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Arc, Mutex};

use autocast::graph::{Attribute, Backward, Input, Node, Op, record};
use autocast::{Result, backward, backward_with, constant_gradients, no_grad, ops};
use candle_core::{D, DType, Device, Tensor, Var};
use proptest::prelude::*;

fn numbers(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn close(ours: &Tensor, theirs: &Tensor) -> bool {
    ours.dims() == theirs.dims()
        && numbers(ours).iter().zip(numbers(theirs)).all(|(a, b)| (a - b).abs() <= 1e-9 * (1. + b.abs()))
}

/// One step of a random program: which op, on which two of the values so far.
#[derive(Clone, Copy, Debug)]
struct Step {
    op: usize,
    a: usize,
    b: usize,
}

/// Whether our ops are nodes of ours, or candle's own all the way.
#[derive(Clone, Copy, PartialEq)]
enum Whose {
    Ours,
    Candles,
}

/// A matrix of 3 x 4 from two of them: views of every kind, candle's ops, and ours with candle's equivalent.
fn apply(step: Step, values: &[Tensor], whose: Whose) -> candle_core::Result<Tensor> {
    let (a, b) = (&values[step.a % values.len()], &values[step.b % values.len()]);
    let ours =
        |ours: &dyn Fn() -> Result<Tensor>, theirs: &dyn Fn() -> candle_core::Result<Tensor>| match whose {
            Whose::Ours => Ok(ours()?),
            Whose::Candles => theirs(),
        };
    match step.op % 16 {
        0 => ours(&|| ops::mul(a, b), &|| a.mul(b)),
        1 => ours(&|| ops::add(a, b), &|| a.add(b)),
        2 => ours(&|| ops::sub(a, b), &|| a.sub(b)),
        3 => ours(&|| ops::tanh(a), &|| a.tanh()),
        4 => ours(&|| ops::matmul(a, &b.t()?), &|| a.matmul(&b.t()?))?.pad_with_zeros(1, 0, 1),
        // Views, which candle copies only where it must.
        5 => a.reshape((4, 3))?.t(),
        6 => a.t()?.reshape((3, 4)),
        7 => Tensor::cat(&[a.narrow(1, 2, 2)?, b.narrow(1, 1, 2)?], 1),
        8 => a.narrow(0, 1, 1)?.broadcast_as((3, 4)),
        9 => a.narrow(1, 3, 1)?.squeeze(1)?.unsqueeze(1)?.broadcast_as((3, 4)),
        10 => ours(&|| ops::neg(&a.narrow(1, 0, 2)?.t()?), &|| a.narrow(1, 0, 2)?.t()?.neg())?
            .t()?
            .repeat((1, 2)),
        11 => a.reshape((3, 2, 2))?.permute((0, 2, 1))?.reshape((3, 4)),
        // candle's own.
        12 => a.add(b),
        13 => (a * 0.5)?.sin(),
        14 => a.broadcast_sub(&b.mean_keepdim(D::Minus1)?),
        _ => a.get(2)?.broadcast_add(&b.narrow(0, 0, 1)?.broadcast_as((3, 4))?.contiguous()?),
    }
}

fn program(steps: &[Step], x: &Var, y: &Var, whose: Whose) -> candle_core::Result<Tensor> {
    let mut values = vec![x.as_tensor().clone(), y.as_tensor().clone()];
    for &step in steps {
        let value = apply(step, &values, whose)?;
        values.push(value);
    }
    let last = values.pop().expect("two values to begin with");
    // So that everything has a gradient, and is small.
    let all = values.iter().try_fold(last, |sum, value| sum.add(&(value * 0.125)?))?;
    all.tanh()?.sqr()?.sum_all()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn gradients_of_random_programs_are_candles(
        steps in prop::collection::vec((0usize..16, 0usize..64, 0usize..64), 1..14),
        seed in 0u32..1000,
    ) {
        let steps: Vec<Step> = steps.into_iter().map(|(op, a, b)| Step { op, a, b }).collect();
        let var = |from: u32| {
            let values: Vec<f64> = (0..12).map(|i| f64::from((i * 7919 + from * 104_729) % 1000) * 0.001 - 0.5).collect();
            Var::from_tensor(&Tensor::from_vec(values, (3, 4), &Device::Cpu).unwrap()).unwrap()
        };
        let (x, y) = (var(seed), var(seed + 500));
        let theirs = program(&steps, &x, &y, Whose::Candles).unwrap().backward().unwrap();
        let ours = backward(program(&steps, &x, &y, Whose::Ours).unwrap()).unwrap();
        for var in [&x, &y] {
            match (ours.get(var), theirs.get(var)) {
                (Some(ours), Some(theirs)) => prop_assert!(close(ours, theirs), "{ours} {theirs}"),
                (ours, theirs) => prop_assert_eq!(ours.is_some(), theirs.is_some()),
            }
        }
    }
}

#[test]
fn candles_walk_says_what_to_call() {
    let x = Var::new(&[1f32, 2.], &Device::Cpu).unwrap();
    let loss = ops::sum_all(&ops::square(&x).unwrap()).unwrap();
    let error = loss.backward().unwrap_err().to_string();
    assert!(error.contains("autocast::backward(loss)"), "{error}");
    assert_eq!(numbers(backward(loss).unwrap().get(&x).unwrap()), [2., 4.]);
}

#[test]
fn a_graph_that_somebody_holds_can_be_walked_again() {
    let x = Var::new(&[1f64, 2.], &Device::Cpu).unwrap();
    let trunk = ops::square(&x).unwrap();
    let losses =
        [ops::sum_all(&trunk).unwrap(), ops::sum_all(&ops::mul_scalar(&trunk, 3.).unwrap()).unwrap()];
    let grads = losses.map(|loss| numbers(backward(loss).unwrap().get(&x).unwrap()));
    assert_eq!(grads, [vec![2., 4.], vec![6., 12.]]);
}

/// Two blocks that are added to what they got, by candle's `+`, as in a residual network.
#[test]
fn a_residual_stream_of_candles_additions_is_right() {
    let w = Var::new(&[[0.5f64, 0.1], [-0.2, 0.3]], &Device::Cpu).unwrap();
    let input = Tensor::new(&[[1f64, 2.], [3., 4.]], &Device::Cpu).unwrap();
    let run = |whose: Whose| -> candle_core::Result<Tensor> {
        let mut x = input.matmul(&w)?;
        for _ in 0..6 {
            let branch = match whose {
                Whose::Ours => ops::tanh(&ops::matmul(&x, &w)?)?,
                Whose::Candles => x.matmul(&w)?.tanh()?,
            };
            x = (x + branch)?;
        }
        x.sqr()?.sum_all()
    };
    let ours = backward(run(Whose::Ours).unwrap()).unwrap();
    let theirs = run(Whose::Candles).unwrap().backward().unwrap();
    assert!(close(ours.get(&w).unwrap(), theirs.get(&w).unwrap()));
}

#[test]
fn a_model_runs_on_several_threads_and_its_loss_is_walked_on_another() {
    let w = Var::new(&[[0.5f64, 0.1], [-0.2, 0.3]], &Device::Cpu).unwrap();
    let part = |x: f64| {
        let input = Tensor::full(x, (2, 2), &Device::Cpu).unwrap();
        ops::sum_all(&ops::gelu(&ops::linear(&input, &w, None).unwrap().t().unwrap()).unwrap()).unwrap()
    };
    let together =
        |parts: &[Tensor]| parts.iter().skip(1).fold(parts[0].clone(), |a, b| ops::add(&a, b).unwrap());
    let here = backward(together(&[part(1.), part(2.), part(3.)])).unwrap();
    let parts = std::thread::scope(|scope| {
        let threads: Vec<_> = [1., 2., 3.].map(|x| scope.spawn(move || part(x))).into_iter().collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let loss = together(&parts);
    drop(parts);
    let there = std::thread::scope(|scope| scope.spawn(|| backward(loss).unwrap()).join().unwrap());
    // Nodes of several threads are created in any order, in which their gradients are added.
    assert!(close(here.get(&w).unwrap(), there.get(&w).unwrap()));
}

#[test]
fn nothing_is_recorded_where_nothing_is_to_be() {
    let x = Var::new(&[1f32, 2.], &Device::Cpu).unwrap();
    let off = no_grad(|| ops::gelu(&ops::square(&x).unwrap()).unwrap());
    assert!(!off.track_op() && Node::of(&off).is_none());
    let constant = ops::gelu(&x.as_detached_tensor()).unwrap();
    assert!(Node::of(&constant).is_none());
    assert!(Node::of(&ops::gelu(&x).unwrap()).is_some());
}

#[test]
fn a_node_can_be_read() {
    let x = Var::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu).unwrap();
    let y = ops::square(&x).unwrap();
    let z = ops::add(&y.t().unwrap(), &Tensor::ones((2, 2), DType::F32, &Device::Cpu).unwrap()).unwrap();
    let node = Node::of(&z).unwrap();
    assert_eq!((node.name(), node.shape().dims(), node.dtype()), ("add", &[2, 2][..], DType::F32));
    let [Input::View(of, layout), Input::Constant] = node.inputs() else { panic!("{:?}", node.inputs()) };
    assert_eq!((of.name(), layout.stride()), ("square", &[1, 2][..]));
    assert!(matches!(of.inputs(), [Input::Variable(var)] if var.id() == x.id()));
    assert!(Node::of(&y).is_some() && Node::of(&x).is_none());
    let dropped = ops::dropout(&x, 0.25, 7).unwrap();
    let attributes = Node::of(&dropped).unwrap().attributes();
    assert!(attributes.contains(&("p", Attribute::Number(0.25))), "{attributes:?}");
}

#[test]
fn a_final_gradient_is_told_while_older_ops_wait() {
    let [a, b, c] = [1f64, 2., 3.].map(|x| Var::new(x, &Device::Cpu).unwrap());
    // c is used last and first, b in the middle, a first alone.
    let first = ops::mul(&a, &c).unwrap();
    let middle = ops::mul(&first, &b).unwrap();
    let last = (ops::mul(&middle, &c).unwrap() * 2.).unwrap();
    let mut told = Vec::new();
    let names = [(a.id(), 'a'), (b.id(), 'b'), (c.id(), 'c')];
    let name = |id| names.iter().find(|(other, _)| *other == id).unwrap().1;
    let grads = backward_with(last, &mut |var, grad| {
        told.push((name(var.id()), grad.to_scalar::<f64>().unwrap()));
    })
    .unwrap();
    // 2abc²: b is final before a and c are.
    assert_eq!(told[0], ('b', 18.));
    told.sort_by_key(|(name, _)| *name);
    assert_eq!(told, [('a', 36.), ('b', 18.), ('c', 24.)]);
    for (var, grad) in [(&a, 36.), (&b, 18.), (&c, 24.)] {
        assert_eq!(grads.get(var).unwrap().to_scalar::<f64>().unwrap(), grad);
    }
}

/// Adds its input, and tells what it is given.
struct Probe {
    wanted: Arc<Mutex<Vec<bool>>>,
    sums: bool,
}

impl Op for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
        *self.wanted.lock().unwrap() = (0..cx.inputs()).map(|input| cx.wanted(input)).collect();
        let grads = (0..cx.inputs()).map(|input| {
            let grad = cx.grad().clone();
            Ok(Some(match cx.take(input)?.filter(|_| self.sums) {
                Some(before) => (before + grad)?,
                None => grad,
            }))
        });
        grads.collect()
    }
}

#[test]
fn an_op_knows_what_is_wanted_and_may_add_to_what_is_there() {
    let x = Var::new(&[1f64, 2.], &Device::Cpu).unwrap();
    let constant = x.as_detached_tensor();
    let wanted = Arc::new(Mutex::new(Vec::new()));
    let five = [&constant, &x, &constant, &x, &constant];
    let probe = || Probe { wanted: wanted.clone(), sums: true };
    let y = record(probe(), &five, constant.clone()).unwrap();
    // The older use is walked last, when there is a gradient already.
    let loss = (y.sum_all().unwrap() + ops::square(&x).unwrap().sum_all().unwrap()).unwrap();
    let grads = backward(loss).unwrap();
    assert_eq!(*wanted.lock().unwrap(), [false, true, false, true, false]);
    assert_eq!(numbers(grads.get(&x).unwrap()), [4., 6.], "2x, and twice 1");
    assert_eq!(numbers(&constant), [1., 2.], "a shared value is copied into the graph");
}

#[test]
fn what_an_op_took_and_did_not_give_back_is_an_error() {
    struct Thief;
    impl Op for Thief {
        fn name(&self) -> &'static str {
            "thief"
        }
        fn backward(&self, cx: &mut Backward<'_>) -> Result<Vec<Option<Tensor>>> {
            cx.take(0)?;
            Ok(vec![None])
        }
    }
    let x = Var::new(1f64, &Device::Cpu).unwrap();
    let y = record(Thief, &[&x], x.as_detached_tensor()).unwrap();
    let loss = ops::add(&y, &ops::square(&x).unwrap()).unwrap();
    let error = backward(loss).unwrap_err().to_string();
    assert!(error.contains("thief"), "{error}");
}

#[test]
fn a_gradient_of_a_gradient_is_an_error_and_a_constant_only_by_name() {
    let x = Var::new(&[1f64, 2.], &Device::Cpu).unwrap();
    let loss = || ops::sum_all(&ops::square(&x).unwrap()).unwrap();
    let penalty = |grad: &Tensor| ops::sum_all(&ops::square(grad).unwrap()).unwrap();
    let grads = backward(loss()).unwrap();
    let grad = grads.get(&x).unwrap();
    for made_of_it in [penalty(grad), grad.sqr().unwrap().sum_all().unwrap()] {
        let error = backward(ops::add(&loss(), &made_of_it).unwrap()).unwrap_err().to_string();
        assert!(error.contains("gradient") && error.contains("detach"), "{error}");
    }
    for constant in [grad.detach(), constant_gradients(loss()).unwrap().get(&x).unwrap().clone()] {
        let grads = backward(ops::add(&loss(), &penalty(&constant)).unwrap()).unwrap();
        assert_eq!(numbers(grads.get(&x).unwrap()), [2., 4.]);
    }
}

/// `add` returns one tensor as the gradient of both: what is then added to one of them must not reach the other.
#[test]
fn a_gradient_of_two_inputs_is_changed_for_neither() {
    let [x, y] = [[1f64, 2.], [3., 4.]].map(|values| Var::new(&values, &Device::Cpu).unwrap());
    let (u, v) = (ops::square(&x).unwrap(), ops::square(&y).unwrap());
    let older = ops::square(&u).unwrap();
    let sum = ops::add(&u, &v).unwrap();
    let loss = ops::add(&ops::sum_all(&older).unwrap(), &ops::sum_all(&sum).unwrap()).unwrap();
    let grads = backward(loss).unwrap();
    // x² + x⁴, and y².
    assert_eq!(numbers(grads.get(&x).unwrap()), [6., 36.]);
    assert_eq!(numbers(grads.get(&y).unwrap()), [6., 8.]);
}
