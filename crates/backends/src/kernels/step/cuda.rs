//! A step on a CUDA device, in two launches for all parameters. The host neither waits nor asks.
//!
//! The first launch looks at the gradients and decides; the second updates, or touches nothing where the step is skipped.

#![expect(unsafe_code, reason = "launching a kernel")]

use super::launch::{Counted, DeviceRule, Launched};
use super::operands::{OP, Parameter, operand, take_slot};
use super::tables::{WEIGHTS, by_weight_type, chunk_ends, chunk_table};
use super::{OnNonFinite, Pending, RuleSettings, Seen, Settings, Tally, WriteBack};
use crate::Result;
use crate::cuda::{
    Kernel, Module, Outcomes, Table, device, dtype_code, module, read_address, slice_address, write_address,
};
use crate::kernels::loss_scale::{Counting, LossScale, OnDevice as Scale};
use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::{CudaDevice, Tensor};
use std::collections::HashMap;
use std::sync::Arc;

const STATS: Module = module!("grad_stats");
/// Words of one block's partial sum: `Partial` in `grad_stats.cu`.
const PARTIAL_WORDS: usize = 2;
/// Rates that are uploaded together: more than there are pending steps, so that few steps need an upload.
const RATES: u64 = 1024;
/// What outlives a step on the device, apart from weights and states.
#[derive(Debug)]
pub(crate) struct OnDevice {
    candle: CudaDevice,
    slots: usize,
    launches: u32,
    /// `StepState` in `multi_tensor.cuh`.
    state: Arc<CudaSlice<u64>>,
    steps: CudaSlice<u32>,
    partials: CudaSlice<u64>,
    outcomes: Arc<Outcomes>,
    grads: Table,
    params: Table,
    chunks: Table,
    groups: Table,
    rates: Table,
    /// The count of applied steps that the first rate is for, while the device has rates.
    first_rate: Option<u64>,
    stats: Kernel,
    updates: HashMap<String, Kernel>,
}

impl OnDevice {
    pub(super) fn new(candle: &CudaDevice, steps: &[u64]) -> Result<Self> {
        let narrow =
            |&step: &u64| u32::try_from(step).map_err(|_| operand("a step count", "below 2^32".into(), step));
        let mut counts = steps.iter().map(narrow).collect::<Result<Vec<u32>>>()?;
        // An allocation of no elements has no address.
        counts.resize(steps.len().max(1), 0);
        Ok(Self {
            slots: steps.len(),
            launches: 0,
            state: Arc::new(candle.alloc_zeros(4).map_err(device(OP))?),
            steps: candle.clone_htod(&counts).map_err(device(OP))?,
            partials: candle.alloc_zeros(PARTIAL_WORDS).map_err(device(OP))?,
            outcomes: Arc::new(Outcomes::new(candle)?),
            grads: Table::new(candle),
            params: Table::new(candle),
            chunks: Table::new(candle),
            groups: Table::new(candle),
            rates: Table::new(candle),
            first_rate: None,
            stats: Kernel::load(candle, STATS, "grad_stats")?,
            updates: HashMap::new(),
            candle: candle.clone(),
        })
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// For each slot, how many steps changed it. **Waits for the device.**
    pub(super) fn wait_for_steps(&self) -> Result<Vec<u64>> {
        let all = self.candle.clone_dtoh(&self.steps).map_err(device(OP))?;
        Ok(all.into_iter().take(self.slots).map(u64::from).collect())
    }

    pub(super) fn rates_changed(&mut self) {
        self.first_rate = None;
    }

    /// Launches a step of parameters that were checked. `base` steps were applied before those of `so_far`, which the
    /// device counts.
    pub(super) fn step<R: RuleSettings>(
        &mut self,
        parameters: &[Parameter<'_>],
        groups: &[R],
        settings: &Settings<'_>,
        scale: Option<&mut LossScale>,
        (base, so_far): (u64, &Tally),
    ) -> Result<Pending> {
        let scale = scale.map(|scale| scale.on_device()).transpose()?;
        self.send_rates(settings.rate, base, so_far)?;
        let order = by_weight_type(parameters);
        let in_order: Vec<(usize, &Tensor)> =
            order.iter().map(|&at| (parameters[at].slot, parameters[at].grad)).collect();
        let refuses = settings.on_non_finite == OnNonFinite::Refuse;
        let looks = scale.is_some() || settings.max_norm.is_some() || refuses;
        let counted = match scale {
            Some((_, Counting::On)) => Some(self.count(&in_order)?),
            _ => None,
        };
        let scale = scale.map(|(scale, _)| scale);
        let (grads, chunk_list) =
            self.decide(&in_order, looks, settings.max_norm, scale, counted.as_ref())?;
        // From here on the device is busy with the gradients, and the host catches up.
        let rules: Vec<DeviceRule> = groups.iter().map(RuleSettings::on_device).collect();
        let params = self.upload_params(parameters, &order)?;
        let words: Vec<u64> = rules.iter().flat_map(|rule| rule.words).collect();
        let groups = self.groups.upload(&words)?;
        let (rates, window) = match self.first_rate {
            // The device's count wraps, and only differences matter.
            Some(first) => (self.rates.address(), u64::from(first as u32) | RATES << 32),
            None => (0, 0),
        };
        let mut first = 0;
        for ((_, suffix), end) in WEIGHTS.iter().zip(chunk_ends(parameters, &order)) {
            let args: [u64; 10] = [
                grads,
                params,
                chunk_list,
                groups,
                slice_address(&self.steps, &self.candle.cuda_stream()),
                slice_address(&self.state, &self.candle.cuda_stream()),
                settings.clip_value.unwrap_or(-1.0).to_bits(),
                first as u64,
                rates,
                window,
            ];
            let blocks = (end - first) as u64;
            first = end;
            if blocks > 0 {
                let kernel = self.kernel(rules[0], suffix)?;
                // SAFETY: `args` is `StepArgs`. The tables hold addresses of tensors that the stepper's check found to be
                // on this device, contiguous, and of the lengths and types that the tables give; the caller's borrows keep
                // them alive until here, and what frees them later does so in the order of the same stream. The weights'
                // addresses were taken under their write locks. No two parameters share a slot, and candle's variables
                // do not share storage, so no two blocks write to one place.
                unsafe { kernel.launch(blocks, &args) }?;
            }
        }
        Ok(Pending::launched(self.launched(base, looks, counted)))
    }

    /// Looks at gradients and takes no step. **Waits for the device.**
    fn look(&mut self, grads: &[(usize, &Tensor)], scale: Option<&Scale>) -> Result<Seen> {
        let mut seen = vec![false; self.slots];
        grads.iter().try_for_each(|&(slot, _)| take_slot(&mut seen, slot))?;
        let counted = self.count(grads)?;
        self.decide(grads, true, None, scale, Some(&counted))?;
        let seen = self.launched(0, true, Some(counted)).wait_for_seen()?;
        seen.ok_or_else(|| device(OP)("the outcome of a look did not come"))
    }

    fn launched(&self, base: u64, looked: bool, counted: Option<Counted>) -> Launched {
        let (outcomes, state) = (Arc::clone(&self.outcomes), Arc::clone(&self.state));
        Launched { outcomes, serial: self.launches, state, base, looked, counted }
    }

    /// Room for counts of the gradients' elements.
    fn count(&self, grads: &[(usize, &Tensor)]) -> Result<Counted> {
        let counts = self.candle.alloc_zeros(3 * self.slots.max(1)).map_err(device(OP))?;
        let lens = grads.iter().map(|(slot, grad)| (*slot, grad.elem_count() as u64)).collect();
        Ok(Counted { candle: self.candle.clone(), counts: Arc::new(counts), lens })
    }

    /// Launches `grad_stats`. Gives the addresses of the tables of gradients and of chunks.
    fn decide(
        &mut self,
        grads: &[(usize, &Tensor)],
        looks: bool,
        max_norm: Option<f64>,
        scale: Option<&Scale>,
        counted: Option<&Counted>,
    ) -> Result<(u64, u64)> {
        let chunks = chunk_table(grads);
        let grad_list = self.upload_grads(grads)?;
        let chunk_list = self.chunks.upload(&chunks)?;
        let (scale, scaler) = match scale {
            Some(s) => (read_address(OP, "the scale", &self.candle, s.scale())?, s.state_address()),
            None => (0, 0),
        };
        let n_chunks = if looks { chunks.len() } else { 0 };
        let words = PARTIAL_WORDS * n_chunks;
        if self.partials.len() < words {
            self.partials = self.candle.alloc_zeros(words.next_power_of_two()).map_err(device(OP))?;
        }
        let narrow = |len: usize| u32::try_from(len).map(u64::from).map_err(device(OP));
        let stream = self.candle.cuda_stream();
        let args: [u64; 12] = [
            grad_list,
            chunk_list,
            slice_address(&self.partials, &stream),
            slice_address(&self.steps, &stream),
            counted.map_or(0, |counted| slice_address(&counted.counts, &stream)),
            slice_address(&self.state, &stream),
            scale,
            scaler,
            self.outcomes.address()?,
            max_norm.unwrap_or(-1.0).to_bits(),
            narrow(n_chunks)? | narrow(grads.len())? << 32,
            u64::from(Outcomes::LEN),
        ];
        // SAFETY: `args` is `StatsArgs`. The tables' gradients are alive as in `step`; everything else belongs to `self`,
        // to `counted`, which the caller keeps, or to the scale, is as long as the kernel indexes it (slots are checked,
        // partials grown above), and is freed in the order of the stream or after waiting for it.
        unsafe { self.stats.launch(n_chunks.max(1) as u64, &args) }?;
        self.launches = self.launches.wrapping_add(1);
        Ok((grad_list, chunk_list))
    }

    /// Gives the device the rates of every step that the next one may turn out to be: the host may not know yet how many
    /// of the steps before it were skipped.
    fn send_rates(&mut self, rate: Option<&dyn Fn(u64) -> f64>, base: u64, so_far: &Tally) -> Result<()> {
        let Some(rate) = rate else {
            self.first_rate = None;
            return Ok(());
        };
        if self.first_rate.is_none_or(|first| so_far.at_most_applied() >= first + RATES) {
            let applied = so_far.counts()?.applied;
            let rates = applied..applied + RATES;
            let words: Vec<u64> = rates.map(|applied| rate(base.saturating_add(applied)).to_bits()).collect();
            self.rates.upload(&words)?;
            self.first_rate = Some(applied);
        }
        Ok(())
    }

    fn upload_grads(&mut self, grads: &[(usize, &Tensor)]) -> Result<u64> {
        let mut words = Vec::with_capacity(3 * grads.len());
        for &(slot, grad) in grads {
            words.push(read_address(OP, "a gradient", &self.candle, grad)?);
            words.push(grad.elem_count() as u64);
            words.push(slot as u64 | dtype_code(OP, grad.dtype())? << 32);
        }
        self.grads.upload(&words)
    }

    fn upload_params(&mut self, parameters: &[Parameter<'_>], order: &[usize]) -> Result<u64> {
        let mut words = Vec::with_capacity(6 * order.len());
        for &at in order {
            let p = &parameters[at];
            let address = |argument, tensor| write_address(OP, argument, &self.candle, tensor);
            // `WriteBack` in `fused_step.cuh`.
            let (kept, seed, mode) = match &p.state.write_back {
                WriteBack::Nearest => (0, 0, 0),
                WriteBack::Master(master) => (address("a master", master)?, 0, 1),
                WriteBack::Kahan(lost) => (address("a compensation", lost)?, 0, 2),
                WriteBack::Stochastic { key: seed } => (0, *seed, 3),
            };
            let moment = |nth: usize| p.state.moments.get(nth).map_or(Ok(0), |m| address("a moment", m));
            words.extend([address("the weights", p.weights)?, kept, moment(0)?, moment(1)?, seed]);
            words.push(p.group as u64 | dtype_code(OP, p.weights.dtype())? << 32 | mode << 40);
        }
        self.params.upload(&words)
    }

    fn kernel(&mut self, rule: DeviceRule, suffix: &'static str) -> Result<&Kernel> {
        let DeviceRule { module, prefix, .. } = rule;
        let name = format!("{prefix}_{suffix}");
        if !self.updates.contains_key(&name) {
            let loaded = Kernel::load(&self.candle, module, &name)?;
            self.updates.insert(name.clone(), loaded);
        }
        Ok(&self.updates[&name])
    }
}

/// Looks at gradients, each with its parameter's slot, and tells `scale` where it is given. **Waits for the device.**
pub(crate) fn look(candle: &CudaDevice, grads: &[(usize, &Tensor)], scale: Option<&Scale>) -> Result<Seen> {
    let slots = grads.iter().map(|(slot, _)| slot + 1).max().unwrap_or(0);
    OnDevice::new(candle, &vec![0; slots])?.look(grads, scale)
}
