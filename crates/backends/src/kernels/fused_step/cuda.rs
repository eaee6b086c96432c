//! `DeviceStep`: one optimizer's step on a CUDA device, in two launches for all of its parameters.
//!
//! The first launch looks at the gradients and decides; the second updates, or touches nothing where the step is skipped.
//! The host neither waits nor asks: it polls [`DeviceStep::outcomes`] whenever it likes.

#![expect(unsafe_code, reason = "launching a kernel")]

pub use super::operands::{DeviceParameter, DeviceWriteBack};
use super::operands::{OP, WEIGHTS, by_weight_type, check_tensors, chunk_ends, chunk_table};
use crate::cuda::{
    DeviceScaler, Kernel, Module, Outcomes, PendingStep, Table, device, dtype_code, read_address,
    slice_address, write_address,
};
use crate::kernels::grad_stats::cuda::{MODULE as STATS, PARTIAL_WORDS, StatsArgs};
use crate::{Error, Result};
use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::{CudaDevice, Device, Tensor};
use std::collections::HashMap;
use std::sync::Arc;

/// An optimizer's rule as its kernel takes it: the settings of one parameter group.
pub trait DeviceRule {
    /// The compiled `.cu` file, and the prefix of its kernels: `_f32` and so on follow.
    #[doc(hidden)]
    fn kernel(&self) -> RuleKernel;

    /// How many moments the rule keeps.
    fn moments(&self) -> usize;

    /// The group's settings, as the kernel's struct lays them out.
    fn words(&self) -> [u64; 6];
}

/// Where a rule's kernels are. Made in this crate alone.
#[derive(Clone, Copy, Debug)]
pub struct RuleKernel {
    pub(crate) module: Module,
    pub(crate) prefix: &'static str,
}

/// What a step does apart from its rule.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepSettings {
    /// Clips the unscaled gradients to this global norm.
    pub max_norm: Option<f64>,
    /// Clamps each unscaled gradient to this magnitude, after that.
    pub clip_value: Option<f64>,
}

/// What outlives a step of one optimizer on the device, apart from weights and moments.
#[derive(Debug)]
pub struct DeviceStep {
    candle: CudaDevice,
    slots: usize,
    launches: u32,
    /// `StepState` in `multi_tensor.cuh`.
    state: Arc<CudaSlice<u64>>,
    steps: CudaSlice<u32>,
    overflowed: CudaSlice<u32>,
    counts: Option<CudaSlice<u64>>,
    partials: CudaSlice<u64>,
    outcomes: Arc<Outcomes>,
    grads: Table,
    params: Table,
    chunks: Table,
    groups: Table,
    rates: Table,
    /// The count of applied steps that the first rate is for, and how many there are.
    window: (u32, u32),
    stats: Kernel,
    updates: HashMap<String, Kernel>,
}

impl DeviceStep {
    /// Room for an optimizer of `slots` parameters, which have taken `steps` steps each.
    ///
    /// # Errors
    ///
    /// Where the device is not a CUDA device, or fails.
    pub fn new(on: &Device, steps: &[u32]) -> Result<Self> {
        let Device::Cuda(candle) = on else {
            let got = format!("{:?}", on.location());
            return Err(Error::Operand {
                op: OP,
                argument: "the device",
                expected: "a CUDA device".into(),
                got,
            });
        };
        // An allocation of no elements has no address.
        let room = steps.len().max(1);
        let mut counts = steps.to_vec();
        counts.resize(room, 0);
        Ok(Self {
            slots: steps.len(),
            launches: 0,
            state: Arc::new(candle.alloc_zeros(4).map_err(device(OP))?),
            steps: candle.clone_htod(&counts).map_err(device(OP))?,
            overflowed: candle.alloc_zeros(room).map_err(device(OP))?,
            counts: None,
            partials: candle.alloc_zeros(PARTIAL_WORDS).map_err(device(OP))?,
            outcomes: Arc::new(Outcomes::new(candle)?),
            grads: Table::new(candle),
            params: Table::new(candle),
            chunks: Table::new(candle),
            groups: Table::new(candle),
            rates: Table::new(candle),
            window: (0, 0),
            stats: Kernel::load(candle, STATS, "grad_stats")?,
            updates: HashMap::new(),
            candle: candle.clone(),
        })
    }

    /// What became of the steps, by the serial number that [`step`](Self::step) gave them.
    pub fn outcomes(&self) -> &Arc<Outcomes> {
        &self.outcomes
    }

    /// The step that has this serial number.
    pub fn pending(&self, serial: u32) -> PendingStep {
        PendingStep::new(&self.outcomes, serial, &self.state)
    }

    /// From the next step on, multiplies the learning rate of every group by `rates[n]` where `first + n` steps were applied
    /// before it, as the device counts them from the making of `self`; a count outside of the table has its nearest rate.
    /// No rates: by 1. Does not wait for the device.
    ///
    /// # Errors
    ///
    /// [`Error::Operand`] for more than 2^32 rates; [`Error::Device`] where the driver fails.
    pub fn set_rates(&mut self, first: u32, rates: &[f64]) -> Result<()> {
        let len = u32::try_from(rates.len()).map_err(|_| Error::Operand {
            op: OP,
            argument: "the rates",
            expected: "fewer than 2^32".into(),
            got: rates.len().to_string(),
        })?;
        let words: Vec<u64> = rates.iter().map(|rate| rate.to_bits()).collect();
        self.rates.upload(&words)?;
        self.window = (first, len);
        Ok(())
    }

    /// Takes a step, or skips it where `scaler` is given and a gradient is infinite or NaN once unscaled. Does not wait
    /// for the device. Gives the step's serial number.
    ///
    /// # Units
    ///
    /// The gradients carry `scaler`'s scale, or none.
    ///
    /// # Errors
    ///
    /// [`Error::Operand`] and [`Error::LengthMismatch`] for a tensor that is not what its place asks for, before anything
    /// is launched; [`Error::Device`] where the driver fails.
    pub fn step<R: DeviceRule>(
        &mut self,
        parameters: &[DeviceParameter<'_>],
        groups: &[R],
        settings: StepSettings,
        scaler: Option<&mut DeviceScaler>,
    ) -> Result<u32> {
        let Some(rule) = groups.first() else {
            let (expected, got) = ("at least one".into(), "none".into());
            return Err(Error::Operand { op: OP, argument: "the groups", expected, got });
        };
        self.check(parameters, groups.len(), rule.moments())?;
        let order = by_weight_type(parameters);
        let in_order: Vec<(usize, &Tensor)> =
            order.iter().map(|&at| (parameters[at].slot, parameters[at].grad)).collect();
        let looks = scaler.is_some() || settings.max_norm.is_some();
        let (grads, chunk_list) = self.decide(&in_order, looks, settings.max_norm, scaler)?;
        let ends = chunk_ends(parameters, &order);
        // From here on the device is busy with the gradients, and the host catches up.
        let params = self.upload_params(parameters, &order)?;
        let words: Vec<u64> = groups.iter().flat_map(DeviceRule::words).collect();
        let groups = self.groups.upload(&words)?;
        let rates = if self.window.1 == 0 { 0 } else { self.rates.address() };
        let window = u64::from(self.window.0) | u64::from(self.window.1) << 32;
        let mut first = 0;
        for ((_, suffix), end) in WEIGHTS.iter().zip(ends) {
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
                let kernel = self.kernel(rule.kernel(), suffix)?;
                // SAFETY: `args` is `StepArgs`. The tables hold addresses of tensors that `check` found to be on this
                // device, contiguous, and of the lengths and types that the tables give; the caller's borrows keep them
                // alive until here, and what frees them later does so in the order of the same stream. The weights'
                // addresses were taken under their write locks. No two parameters share a slot, and candle's variables
                // do not share storage, so no two blocks write to one place.
                unsafe { kernel.launch(blocks, &args) }?;
            }
        }
        Ok(self.launches)
    }

    /// Looks at gradients, each with its parameter's slot, as [`step`](Self::step) does, and takes no step: the outcome
    /// tells, and `scaler` is told where it is given. Does not wait for the device. Gives the outcome's serial number.
    ///
    /// # Errors
    ///
    /// As for [`step`](Self::step).
    pub fn look(&mut self, grads: &[(usize, &Tensor)], scaler: Option<&mut DeviceScaler>) -> Result<u32> {
        let mut seen = vec![false; self.slots];
        for &(slot, _) in grads {
            self.take_slot(&mut seen, slot)?;
        }
        self.decide(grads, true, None, scaler)?;
        Ok(self.launches)
    }

    /// Launches `grad_stats`. Gives the addresses of the tables of gradients and of chunks.
    fn decide(
        &mut self,
        grads: &[(usize, &Tensor)],
        looks: bool,
        max_norm: Option<f64>,
        scaler: Option<&mut DeviceScaler>,
    ) -> Result<(u64, u64)> {
        let chunks = chunk_table(grads);
        let grad_list = self.upload_grads(grads)?;
        let chunk_list = self.chunks.upload(&chunks)?;
        let (scale, scaler) = match scaler {
            Some(s) => (read_address(OP, "the scale", &self.candle, s.scale())?, s.state_address()),
            None => (0, 0),
        };
        let n_chunks = if looks { chunks.len() } else { 0 };
        let words = PARTIAL_WORDS * n_chunks;
        if self.partials.len() < words {
            self.partials = self.candle.alloc_zeros(words.next_power_of_two()).map_err(device(OP))?;
        }
        let stream = self.candle.cuda_stream();
        let args = StatsArgs {
            grads: grad_list,
            chunks: chunk_list,
            partials: slice_address(&self.partials, &stream),
            steps: slice_address(&self.steps, &stream),
            overflowed: slice_address(&self.overflowed, &stream),
            counts: self.counts.as_ref().map_or(0, |counts| slice_address(counts, &stream)),
            state: slice_address(&self.state, &stream),
            scale,
            scaler,
            outcomes: self.outcomes.address()?,
            max_norm: max_norm.unwrap_or(-1.0),
            n_chunks: u32::try_from(n_chunks).map_err(device(OP))?,
            n_grads: u32::try_from(grads.len()).map_err(device(OP))?,
            ring: Outcomes::LEN,
        };
        // SAFETY: `args` is `StatsArgs`. The tables' gradients are alive as in `step`; everything else belongs to `self`
        // or to the scaler, is as long as the kernel indexes it (slots are checked, partials grown above), and is freed
        // in the order of the stream or after waiting for it.
        unsafe { self.stats.launch(n_chunks.max(1) as u64, &args.words()) }?;
        self.launches = self.launches.wrapping_add(1);
        Ok((grad_list, chunk_list))
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

    fn upload_params(&mut self, parameters: &[DeviceParameter<'_>], order: &[usize]) -> Result<u64> {
        let mut words = Vec::with_capacity(6 * order.len());
        for &at in order {
            let p = &parameters[at];
            let address = |argument, tensor| write_address(OP, argument, &self.candle, tensor);
            let (kept, seed, mode) = match p.write_back {
                DeviceWriteBack::Nearest => (0, 0, 0),
                DeviceWriteBack::Master(master) => (address("a master", master)?, 0, 1),
                DeviceWriteBack::Kahan(lost) => (address("a compensation", lost)?, 0, 2),
                DeviceWriteBack::Stochastic { seed } => (0, seed, 3),
            };
            let moment = |nth: usize| p.moments[nth].map_or(Ok(0), |m| address("a moment", m));
            words.extend([address("weights", p.weights)?, kept, moment(0)?, moment(1)?, seed]);
            words.push(p.group as u64 | dtype_code(OP, p.weights.dtype())? << 32 | mode << 40);
        }
        self.params.upload(&words)
    }

    fn kernel(&mut self, rule: RuleKernel, suffix: &'static str) -> Result<&Kernel> {
        let RuleKernel { module, prefix } = rule;
        let name = format!("{prefix}_{suffix}");
        if !self.updates.contains_key(&name) {
            let loaded = Kernel::load(&self.candle, module, &name)?;
            self.updates.insert(name.clone(), loaded);
        }
        Ok(&self.updates[&name])
    }

    fn check(&self, parameters: &[DeviceParameter<'_>], groups: usize, moments: usize) -> Result<()> {
        let mut seen = vec![false; self.slots];
        for p in parameters {
            self.take_slot(&mut seen, p.slot)?;
            if p.group >= groups {
                let (expected, got) = (format!("below {groups}"), p.group.to_string());
                return Err(Error::Operand { op: OP, argument: "a group", expected, got });
            }
            check_tensors(p, moments)?;
        }
        Ok(())
    }

    fn take_slot(&self, seen: &mut [bool], slot: usize) -> Result<()> {
        let Some(free) = seen.get_mut(slot).filter(|taken| !**taken) else {
            let expected = format!("below {} and in the list once", self.slots);
            return Err(Error::Operand { op: OP, argument: "a slot", expected, got: slot.to_string() });
        };
        *free = true;
        Ok(())
    }

    /// For each slot, the serial number of the last step that its gradient made infinite or NaN; 0 where there was none.
    /// **Waits for the device.**
    ///
    /// # Errors
    ///
    /// Where the driver fails.
    pub fn wait_for_overflows(&self) -> Result<Vec<u32>> {
        self.fetch(&self.overflowed)
    }

    /// For each slot, how many steps changed it. **Waits for the device.**
    ///
    /// # Errors
    ///
    /// Where the driver fails.
    pub fn wait_for_steps(&self) -> Result<Vec<u32>> {
        self.fetch(&self.steps)
    }

    fn fetch(&self, from: &CudaSlice<u32>) -> Result<Vec<u32>> {
        let mut all = self.candle.clone_dtoh(from).map_err(device(OP))?;
        all.truncate(self.slots);
        Ok(all)
    }

    /// Starts counting, for each slot, elements that are not finite once unscaled, that are zero, and that f16 can hold
    /// only as subnormal numbers. Costs a second reading of the gradients from the cache.
    ///
    /// # Errors
    ///
    /// Where the driver fails.
    pub fn start_counting(&mut self) -> Result<()> {
        self.counts = Some(self.candle.alloc_zeros(3 * self.slots.max(1)).map_err(device(OP))?);
        Ok(())
    }

    /// The counts since [`start_counting`](Self::start_counting), as (not finite, zero, subnormal). **Waits for the
    /// device.**
    ///
    /// # Errors
    ///
    /// Where the driver fails.
    pub fn wait_for_counts(&self) -> Result<Vec<[u64; 3]>> {
        let Some(counts) = &self.counts else { return Ok(Vec::new()) };
        let all = self.candle.clone_dtoh(counts).map_err(device(OP))?;
        Ok(all.chunks_exact(3).take(self.slots).map(|c| [c[0], c[1], c[2]]).collect())
    }
}
