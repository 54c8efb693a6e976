"""A float32 graph in half precision, by ONNX Runtime's own converter."""

from __future__ import annotations

METHOD = "float16; float32 in softmax, normalisation and reductions"

# Sums and quotients of many values, which half precision rounds away or overflows.
_FLOAT32 = (
    "Softmax",
    "LogSoftmax",
    "LayerNormalization",
    "BatchNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "LpNormalization",
    "GlobalAveragePool",
    "AveragePool",
    "ReduceMean",
    "ReduceSum",
    "ReduceSumSquare",
    "ReduceL2",
    "ReduceLogSumExp",
    "Pow",
    "Sqrt",
    "Exp",
)


def half(data: bytes) -> bytes:
    """A serialised float32 model with float16 weights and arithmetic; its inputs and outputs stay float32."""
    import onnx
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = convert_float_to_float16(
        onnx.load_from_string(data), keep_io_types=True, op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_FLOAT32]
    )
    # The converter casts a tensor anew for each node that wants it in float32, always under the same name.
    made: dict[str, object] = {}
    for node in model.graph.node:
        made.setdefault(node.output[0], node)
    nodes = list(made.values())
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    # It leaves types of intermediate values that are no longer true; they can be inferred.
    del model.graph.value_info[:]
    OnnxModel(model).topological_sort()
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
