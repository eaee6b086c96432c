//! What is measured: which workloads at which precisions, on which CPUs.

/// What a workload is measured at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum What {
    Train,
    Infer,
}

impl What {
    /// The word for it, of `checks bench` and of the reference.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Infer => "infer",
        }
    }
}

/// One workload at one precision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Case {
    pub(crate) what: What,
    pub(crate) workload: &'static str,
    pub(crate) precision: &'static str,
}

/// Every workload, with its precisions.
const ALL: &[(What, &str, &[&str])] = &[
    (What::Train, "gpt_mini", &["32-true", "bf16-mixed", "bf16-true", "16-true", "64-true"]),
    (What::Train, "mlp_mini", &["32-true", "bf16-mixed", "64-true"]),
    (What::Train, "resnet18", &["32-true", "bf16-mixed"]),
    (What::Infer, "gpt_mini", &["32-true", "bf16-mixed", "bf16-true"]),
];

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan<'a> {
    /// CPUs, separated by commas, to which both sides are pinned where the system can; each has as many threads.
    pub(crate) cpus: &'a str,
    /// Only cases whose name contains this.
    pub(crate) only: &'a str,
    /// Steps of a run, the first of which are not timed.
    pub(crate) steps: usize,
}

impl<'a> Plan<'a> {
    /// The arguments behind `bench compare`; `None` for those that [`usage`](crate::usage) does not list, or that leave nothing.
    pub(crate) fn read(args: &[&'a str]) -> Option<Self> {
        let mut plan = Self { cpus: "0,1", only: "", steps: 15 };
        for pair in args.chunks(2) {
            match *pair {
                ["--cpus", cpus] if cpus.split(',').all(|cpu| cpu.parse::<u32>().is_ok()) => plan.cpus = cpus,
                ["--only", only] => plan.only = only,
                // As many as `checks bench` needs to time one.
                ["--steps", steps] => plan.steps = steps.parse().ok().filter(|&steps| steps > 5)?,
                _ => return None,
            }
        }
        let some = plan.cases().next().is_some();
        some.then_some(plan)
    }

    /// The cases that are asked for, in the table's order.
    pub(crate) fn cases(&self) -> impl Iterator<Item = Case> + use<'_> {
        let cases = ALL.iter().flat_map(|&(what, workload, precisions)| {
            precisions.iter().map(move |&precision| Case { what, workload, precision })
        });
        cases.filter(|case| case.name().contains(self.only))
    }
}

impl Case {
    /// Such as `train gpt_mini 32-true`.
    pub(crate) fn name(&self) -> String {
        format!("{} {} {}", self.what.name(), self.workload, self.precision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_name_chooses_cases() {
        let cases = |only| Plan::read(&["--only", only]).map(|plan| plan.cases().count());
        assert_eq!(Plan::read(&[]).map(|plan| plan.cases().count()), Some(13));
        assert_eq!(cases("infer"), Some(3));
        assert_eq!(cases("mlp_mini bf16"), Some(1));
        assert_eq!(cases("gpt3"), None);
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for args in
            [&["--cpus"][..], &["--cpus", "0-3"], &["--steps", "5"], &["--steps", "many"], &["--fast", "1"]]
        {
            assert_eq!(Plan::read(args), None, "{args:?}");
        }
        let plan = Plan::read(&["--steps", "6", "--cpus", "2,3"]);
        assert_eq!(plan.map(|plan| (plan.steps, plan.cpus)), Some((6, "2,3")));
    }
}
