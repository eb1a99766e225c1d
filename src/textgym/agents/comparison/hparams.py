"""TensorBoard's HParams table of a study: one row a run.

One Experiment for the study, which names the columns, and for each run the start and the end of a
session. TensorBoard takes the first Experiment that it finds, so no run may write one of its own;
a row's figures are the last values of the scalars in the session's own run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

from textgym.agents.comparison.study import Study

_ALWAYS = ("policy", "agent", "reward")
Value = str | float | bool


def hparam_rows(study: Study) -> dict[str, dict[str, Value]]:
    """What each run's row names: policy, agent, reward, seed, and whatever the cells differ in.

    A column has one type: where not all of its values are numbers, they are texts.

    :return: by the run's name.
    """
    cells = {cell.label: cell.settings for cell in study.cells}
    rows: dict[str, dict[str, Value]] = {}
    for run in study.runs:
        known = {name: run.config.get(name) for name in _ALWAYS} | dict(cells[run.cell])
        values = {name: _plain(value) for name, value in known.items() if value is not None}
        rows[run.name] = {**values, "seed": str(run.seed)}
    for name in {name for row in rows.values() for name in row}:
        having = [row for row in rows.values() if name in row]
        if len({type(row[name]) for row in having}) > 1:
            for row in having:
                row[name] = str(row[name])
    return rows


def experiment(title: str, rows: Sequence[Mapping[str, Value]], metrics: Sequence[str]) -> Summary:
    """The columns of the table: every setting of any run, then the seed, then the figures.

    :param metrics: tags of scalars in the sessions' own runs.
    """
    names = list(dict.fromkeys(name for row in rows for name in row if name != "seed"))
    content = api_pb2.Experiment(
        description=title,
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


def session_start(row: Mapping[str, Value]) -> Summary:
    """The start of a run's session, with its settings."""
    start = plugin_data_pb2.SessionStartInfo()
    for name, value in row.items():
        kind = {bool: "bool_value", float: "number_value", str: "string_value"}[type(value)]
        setattr(start.hparams[name], kind, value)
    return _summary(metadata.SESSION_START_INFO_TAG, session_start_info=start)


def session_end() -> Summary:
    """The end of a run's session."""
    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS)
    return _summary(metadata.SESSION_END_INFO_TAG, session_end_info=end)


def _column(name: str, values: Sequence[Value]) -> api_pb2.HParamInfo:
    if isinstance(values[0], float):
        return api_pb2.HParamInfo(name=name, type=api_pb2.DATA_TYPE_FLOAT64)
    if isinstance(values[0], bool):
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
