//! The protocol buffers of an event file, as far as scalars and texts need them.
//!
//! # Source
//! `tensorboard/compat/proto/{event,summary,tensor,tensor_shape,types}.proto`.

use prost::{Message, Oneof};

/// The version that every event file opens with.
pub(super) const FILE_VERSION: &str = "brain.Event:2";
/// `SessionLog.START`: readers forget what came after the event's step.
pub(super) const START: i32 = 1;
/// `DT_STRING`.
const STRING: i32 = 7;

/// One record of an event file.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub(super) wall_time: f64,
    #[prost(int64, tag = "2")]
    pub(super) step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    pub(super) what: Option<What>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionLog {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub(super) value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
    #[prost(string, tag = "1")]
    pub(super) tag: String,
    #[prost(oneof = "Content", tags = "2, 8")]
    pub(super) content: Option<Content>,
    #[prost(message, optional, tag = "9")]
    pub(super) metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Content {
    #[prost(float, tag = "2")]
    Scalar(f32),
    #[prost(message, tag = "8")]
    Tensor(Tensor),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metadata {
    #[prost(message, optional, tag = "1")]
    pub(super) plugin_data: Option<PluginData>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PluginData {
    #[prost(string, tag = "1")]
    pub(super) plugin_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Tensor {
    #[prost(int32, tag = "1")]
    pub(super) dtype: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) shape: Option<Shape>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub(super) string_val: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Shape {
    #[prost(message, repeated, tag = "2")]
    pub(super) dim: Vec<Dim>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Dim {
    #[prost(int64, tag = "1")]
    pub(super) size: i64,
}

impl Value {
    pub(super) fn scalar(tag: &str, value: f64) -> Self {
        Self { tag: tag.to_string(), content: Some(Content::Scalar(value as f32)), metadata: None }
    }

    /// A text, which TensorBoard shows as Markdown.
    pub(super) fn text(tag: &str, text: &str) -> Self {
        let tensor = Tensor {
            dtype: STRING,
            shape: Some(Shape { dim: vec![Dim { size: 1 }] }),
            string_val: vec![text.as_bytes().to_vec()],
        };
        Self {
            tag: tag.to_string(),
            content: Some(Content::Tensor(tensor)),
            metadata: Some(Metadata { plugin_data: Some(PluginData { plugin_name: "text".to_string() }) }),
        }
    }
}
