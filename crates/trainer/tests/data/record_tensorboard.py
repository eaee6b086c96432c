"""Writes tensorboard.tfevents with TensorBoard's own writer: what the trainer's event files are held to, byte for byte.

Run with `tensorboard` installed (recorded with 2.21.0): python record_tensorboard.py
"""

from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.summary.writer.record_writer import RecordWriter

OUT = Path(__file__).parent / "tensorboard.tfevents"
TIME = 1_700_000_000.25


def text(tag, string):
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype=DT_STRING, tensor_shape=shape, string_val=[string.encode()])
    return Summary.Value(tag=tag, metadata=metadata, tensor=tensor)


def scalar(tag, value):
    return Summary.Value(tag=tag, simple_value=value)


events = [
    Event(wall_time=TIME, file_version="brain.Event:2"),
    Event(wall_time=TIME, step=11, session_log=SessionLog(status=SessionLog.START)),
    Event(wall_time=TIME, summary=Summary(value=[text("hyperparameters", "| setting | value |\n|---|---|\n| seed | 7 |\n")])),
    Event(wall_time=TIME + 1, step=50, summary=Summary(value=[scalar("loss", 0.5), scalar("learning_rate", 1e-3)])),
    Event(wall_time=TIME + 2, step=3_000_000_000, summary=Summary(value=[scalar("loss", float("nan")), scalar("loss_scale", 65536.0)])),
]
with OUT.open("wb") as file:
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString())
print(OUT, OUT.stat().st_size, "bytes")
