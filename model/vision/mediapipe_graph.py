"""Runs MediaPipe graphs on the thread that calls them."""

from __future__ import annotations

import importlib.resources
from typing import Any


def open_graph(graph_file: str, **arguments: Any) -> Any:
    """A MediaPipe SolutionBase that works on the thread of its caller and starts none of its own.

    Otherwise MediaPipe starts one thread per core for each graph, up to 53, and ends the process when it
    cannot. The processor time of an image is the same or lower. The graph releases the GIL while it works.

    Args:
        graph_file: path of a .binarypb file within the mediapipe package.
        arguments: what SolutionBase takes besides the graph: side_inputs, calculator_params, outputs, ...

    Raises: ValueError or RuntimeError if the arguments do not match the graph.
    """
    # Imported here because it takes a second; commands that read no image start without it.
    from mediapipe.framework.calculator_pb2 import CalculatorGraphConfig
    from mediapipe.python.solution_base import SolutionBase

    graph = CalculatorGraphConfig.FromString(
        importlib.resources.files("mediapipe").joinpath(graph_file).read_bytes()
    )
    # An executor without a name is the default one of all nodes. SolutionBase ignores graph.num_threads.
    graph.executor.add(type="ApplicationThreadExecutor")
    return SolutionBase(graph_config=graph, **arguments)
