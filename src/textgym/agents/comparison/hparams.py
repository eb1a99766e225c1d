"""TensorBoard's HParams table of a study: one row a run.

One Experiment for the study, which names the columns, and for each run the start and the end of a
session. TensorBoard takes the first Experiment that it finds, so no run may write one of its own;
a row's figures are the last values of the scalars in the session's own run.
"""

from collections.abc import Sequence
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

from textgym.agents.comparison.study import Study, StudyRun

_ALWAYS = ("policy", "agent", "reward")
Value = str | float | bool


def hparams_of(study: Study, run: StudyRun) -> dict[str, Value]:
    """What a run's row names: policy, agent, reward and seed, and whatever its cell differs in."""
    [cell] = [cell for cell in study.cells if cell.label == run.cell]
    known = {name: run.config.get(name) for name in _ALWAYS} | dict(cell.settings)
    values = {name: _plain(value) for name, value in known.items() if value is not None}
    return {**values, "seed": str(run.seed)}


def experiment(study: Study, metrics: Sequence[str]) -> Summary:
    """The columns of the table: every setting of any run, and the figures.

    :param metrics: tags of scalars in the sessions' own runs.
    """
    rows = [hparams_of(study, run) for run in study.runs]
    names = list(dict.fromkeys(name for row in rows for name in row if name != "seed"))
    content = api_pb2.Experiment(
        description=study.title,
        hparam_infos=[
            _column(name, [row[name] for row in rows if name in row]) for name in [*names, "seed"]
        ],
        metric_infos=[
            api_pb2.MetricInfo(
                name=api_pb2.MetricName(tag=tag), display_name=tag.removeprefix("held_out/")
            )
            for tag in metrics
        ],
    )
    return _summary(metadata.EXPERIMENT_TAG, experiment=content)


def session_start(study: Study, run: StudyRun) -> Summary:
    """The start of a run's session, with its settings."""
    start = plugin_data_pb2.SessionStartInfo()
    for name, value in hparams_of(study, run).items():
        kind = {bool: "bool_value", float: "number_value", str: "string_value"}[type(value)]
        setattr(start.hparams[name], kind, value)
    return _summary(metadata.SESSION_START_INFO_TAG, session_start_info=start)


def session_end() -> Summary:
    """The end of a run's session."""
    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS)
    return _summary(metadata.SESSION_END_INFO_TAG, session_end_info=end)


def _column(name: str, values: Sequence[Value]) -> api_pb2.HParamInfo:
    types = {type(value) for value in values}
    if types == {float}:
        return api_pb2.HParamInfo(name=name, type=api_pb2.DATA_TYPE_FLOAT64)
    if types == {bool}:
        return api_pb2.HParamInfo(name=name, type=api_pb2.DATA_TYPE_BOOL)
    column = api_pb2.HParamInfo(name=name, type=api_pb2.DATA_TYPE_STRING)
    column.domain_discrete.extend(sorted({str(value) for value in values}))
    return column


def _plain(value: Any) -> Value:
    if isinstance(value, bool | str):
        return value
    return float(value) if isinstance(value, int | float) else str(value)


def _summary(tag: str, **content: Any) -> Summary:
    data = plugin_data_pb2.HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **content)
    described = metadata.create_summary_metadata(data)
    value = Summary.Value(tag=tag, metadata=described, tensor=metadata.NULL_TENSOR)
    return Summary(value=[value])
