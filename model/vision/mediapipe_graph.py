"""Runs MediaPipe graphs on the thread that calls them.

By default, MediaPipe starts one thread per core for each graph, up to 53, and ends the process if the system
refuses one. One thread needs no more processor time for an image. A graph releases the GIL while it works.
"""

from __future__ import annotations

import importlib.resources
from typing import Any


def open_graph(graph_file: str, **arguments: Any) -> Any:
    """A MediaPipe SolutionBase that works on the thread of its caller and starts none of its own.

    Args:
        graph_file: path of a .binarypb file within the mediapipe package.
        arguments: what SolutionBase takes besides the graph: side_inputs, calculator_params, outputs, ...

    Raises: ValueError or RuntimeError if the arguments do not match the graph.
    """
    # Imported here because it takes a second; commands that read no image start without it.
    from mediapipe.framework.calculator_pb2 import CalculatorGraphConfig
    from mediapipe.python.solution_base import SolutionBase

    file = importlib.resources.files("mediapipe").joinpath(graph_file)
    graph = CalculatorGraphConfig.FromString(file.read_bytes())
    run_on_callers_thread(graph)
    return SolutionBase(graph_config=graph, **arguments)


def run_on_callers_thread(graph: Any) -> None:
    """Change a CalculatorGraphConfig so that its nodes run on the thread that calls the graph."""
    # An executor without a name is the default one of all nodes. SolutionBase ignores graph.num_threads.
    graph.executor.add(type="ApplicationThreadExecutor")
