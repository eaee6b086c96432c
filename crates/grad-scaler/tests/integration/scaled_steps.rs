//! Under any use of a scaler: a skipped step changes nothing to the bit, an applied one is the unscaled step, and no
//! sequence of calls panics.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use grad_scaler::{GradScaler, ScalerConfig, StepOutcome};
use optim::{AdamW, AdamWConfig, Clip, Lion, LionConfig, Momentum, Optimizer, Sgd, SgdConfig, WriteBack};
use proptest::prelude::*;
use std::collections::BTreeMap;

const DTYPES: [DType; 3] = [DType::F16, DType::F32, DType::F64];
const LEN: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Call {
    Scale,
    Unscale,
    Step,
    Update,
}

/// One optimizer and its variables, of every dtype that can be scaled.
struct Side {
    vars: Vec<Var>,
    optimizer: Box<dyn Optimizer>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    AdamWMasters,
    AdamWKahan,
    AdamWStochasticClipped,
    SgdValueClipped,
    Lion,
}

impl Side {
    fn new(kind: Kind) -> Self {
        let start = Tensor::new(&[1.0f32, -0.5, 0.25], &Device::Cpu).unwrap();
        let var = |dtype| Var::from_tensor(&start.to_dtype(dtype).unwrap()).unwrap();
        let vars: Vec<Var> = DTYPES.into_iter().map(var).collect();
        let named = || vars.iter().enumerate().map(|(i, var)| (format!("p{i}"), var.clone()));
        let adamw = || AdamW::new(named(), AdamWConfig { lr: 0.01, ..Default::default() }).unwrap();
        let optimizer: Box<dyn Optimizer> = match kind {
            Kind::AdamWMasters => Box::new(adamw()),
            Kind::AdamWKahan => Box::new(adamw().with_write_back(WriteBack::Kahan).unwrap()),
            Kind::AdamWStochasticClipped => {
                let write_back = WriteBack::StochasticRounding { seed: 3 };
                Box::new(adamw().with_write_back(write_back).unwrap().with_clip(Clip::norm(1.0).unwrap()))
            }
            Kind::SgdValueClipped => {
                let momentum = Momentum::Nesterov { momentum: 0.9 };
                let config = SgdConfig { lr: 0.01, momentum, weight_decay: 0.1 };
                Box::new(Sgd::new(named(), config).unwrap().with_clip(Clip::value(0.5).unwrap()))
            }
            Kind::Lion => Box::new(Lion::new(named(), LionConfig::default()).unwrap()),
        };
        Self { vars, optimizer }
    }

    /// Parameters and state as bits.
    fn bits(&self) -> BTreeMap<String, Vec<u8>> {
        let mut state = self.optimizer.state_dict().unwrap();
        for (i, var) in self.vars.iter().enumerate() {
            state.insert(format!("p{i}"), var.as_tensor().clone());
        }
        state.into_iter().map(|(name, tensor)| (name, bytes(&tensor))).collect()
    }
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    let mut bytes = Vec::new();
    tensor.write_bytes(&mut bytes).unwrap();
    bytes
}

/// The gradients times `scale`, in each parameter's dtype, in which they may overflow.
fn store(vars: &[Var], grads: &[[f64; LEN]; 3], scale: f64) -> GradStore {
    let mut store = GradStore::default();
    for (var, grad) in vars.iter().zip(grads) {
        let scaled = Tensor::new(&grad.map(|g| g * scale), &Device::Cpu).unwrap();
        // By way of f32, as a backward pass would.
        let scaled = if var.dtype() == DType::F64 { scaled } else { scaled.to_dtype(DType::F32).unwrap() };
        store.insert(var, scaled.to_dtype(var.dtype()).unwrap());
    }
    store
}

/// The names of the parameters whose gradients are not finite.
fn overflowed(store: &GradStore, vars: &[Var]) -> Vec<String> {
    let values =
        |var: &Var| -> Vec<f64> { store.get(var).unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap() };
    let bad = vars.iter().enumerate().filter(|(_, var)| !values(var).iter().all(|v| v.is_finite()));
    bad.map(|(i, _)| format!("p{i}")).collect()
}

/// Multiples of 2^-8, which every dtype holds exactly at any of the scales where it does not overflow.
fn gradient() -> impl Strategy<Value = f64> {
    prop_oneof![
        30 => (-1000i32..1000).prop_map(|n| f64::from(n) / 256.0),
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY)],
    ]
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::AdamWMasters),
        Just(Kind::AdamWKahan),
        Just(Kind::AdamWStochasticClipped),
        Just(Kind::SgdValueClipped),
        Just(Kind::Lion),
    ]
}

fn calls() -> impl Strategy<Value = Vec<(Call, [[f64; LEN]; 3])>> {
    let call = prop_oneof![
        2 => Just(Call::Scale),
        1 => Just(Call::Unscale),
        3 => Just(Call::Step),
        3 => Just(Call::Update),
    ];
    let grads = proptest::array::uniform3(proptest::array::uniform3(gradient()));
    proptest::collection::vec((call, grads), 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..Default::default() })]

    #[test]
    fn skipped_steps_change_nothing_and_applied_ones_are_unscaled(
        kind in kinds(), exponent in 0i32..18, calls in calls(),
    ) {
        let init_scale = 2f64.powi(exponent);
        let config = ScalerConfig { init_scale, growth_interval: 2, min_scale: Some(1.0), ..Default::default() };
        let mut scaler = GradScaler::new(config, &Device::Cpu).unwrap();
        let (mut scaled, mut plain) = (Side::new(kind), Side::new(kind));
        // What was unscaled counts until the update, whatever gradients come with the step.
        let mut pending = None;
        for (call, grads) in calls {
            let before = scaled.bits();
            let scale = f64::from(scaler.get_scale()?);
            match call {
                Call::Scale => {
                    scaler.scale(&Tensor::new(1f32, &Device::Cpu).unwrap()).unwrap();
                }
                Call::Unscale => {
                    let mut own = store(&scaled.vars, &grads, scale);
                    let bad = overflowed(&own, &scaled.vars);
                    if scaler.unscale_(&*scaled.optimizer, &mut own).is_ok() {
                        pending = Some((own, grads, bad));
                    }
                }
                Call::Step => {
                    let (own, grads, bad) = pending.take().unwrap_or_else(|| {
                        let own = store(&scaled.vars, &grads, scale);
                        let bad = overflowed(&own, &scaled.vars);
                        (own, grads, bad)
                    });
                    match scaler.step(&mut *scaled.optimizer, &own) {
                        Ok(StepOutcome::Applied) => {
                            let unscaled = store(&plain.vars, &grads, 1.0);
                            plain.optimizer.step(&unscaled).unwrap();
                        }
                        Ok(outcome) => {
                            prop_assert!(!bad.is_empty());
                            prop_assert_eq!(outcome, StepOutcome::Skipped { overflowed: bad });
                        }
                        Err(_) => {}
                    }
                }
                Call::Update => {
                    if scaler.update().is_ok() {
                        pending = None;
                    }
                }
            }
            let after = scaled.bits();
            prop_assert!(after == before || matches!(call, Call::Step));
            prop_assert_eq!(after, plain.bits());
        }
    }
}
