//! What a program that collects `tracing` spans sees of a fit. One test: the collector is the whole process's.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use common::{Net, batches, builder, folder};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use trainer::ModelCheckpoint;

/// The place of every span among the others, and its fields, in the order in which spans began.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Collector {
    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        id: &tracing::span::Id,
        context: Context<'_, S>,
    ) {
        struct Fields(String);
        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn Debug) {
                self.0 += &format!(" {}={value:?}", field.name());
            }
        }
        let span = context.span(id).unwrap();
        let names: Vec<&str> = span.scope().from_root().map(|span| span.name()).collect();
        let mut fields = Fields(names.join("/"));
        attributes.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }
}

#[test]
fn a_fit_is_epochs_of_batches_of_passes_and_steps() {
    let collector = Collector::default();
    let subscriber = tracing_subscriber::registry().with(collector.clone());
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let builder = builder("bf16-mixed").max_epochs(1).accumulate_grad_batches(2).num_sanity_val_steps(0);
    let trainer = builder.checkpoint(ModelCheckpoint::new(folder("spans"))).build().unwrap();
    trainer.fit_validated(&Net, &batches(3), &batches(2)).unwrap();

    let mut seen = std::mem::take(&mut *collector.0.lock().unwrap());
    // By another thread, whenever it gets to it.
    let written = seen.extract_if(.., |span| span.ends_with("/write")).collect::<Vec<_>>();
    assert!(
        !written.is_empty() && written.iter().all(|span| span.ends_with("checkpoint/write")),
        "{written:?}"
    );
    let of_batch = |batch: usize, step: usize, steps: bool| {
        let here = "fit/epoch/batch";
        let mut spans = vec![format!("{here} batch={batch} step={step}")];
        spans.push(format!("{here}/training_step optimizer=\"optimizer\""));
        spans.push(format!("{here}/backward optimizer=\"optimizer\""));
        spans.extend(steps.then(|| format!("{here}/optimizer_step optimizer=\"optimizer\"")));
        spans
    };
    let before = ["fit precision=\"bf16-mixed\" accelerator=\"cpu\"", "fit/epoch epoch=0"];
    let after = ["fit/epoch/validation", "fit/epoch/checkpoint step=2"];
    let mut expected: Vec<String> = before.map(String::from).to_vec();
    expected.extend([of_batch(0, 0, false), of_batch(1, 0, true), of_batch(2, 1, true)].concat());
    expected.extend(after.map(String::from));
    assert_eq!(seen, expected);
}
