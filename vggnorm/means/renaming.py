"""Means under other names of the layers."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from vggnorm.means.filter_means import FilterMeans
from vggnorm.means.moments import Moments


def renamed_by_order(means: FilterMeans, filters: Mapping[str, int]) -> FilterMeans | None:
    """Give means under the names of a network's layers, which are matched in network order.

    Args:
        means: the means.
        filters: layer name -> number of filters, in network order.

    Returns:
        The means; None if the layers of the network have other numbers of filters, or if a layer
        that was measured stands elsewhere in the network.
    """
    measured = [len(values) for values in means.mean.values()]
    if measured != list(filters.values()):
        return None
    names = dict(zip(means.mean, filters, strict=True))
    if any(name in filters and other != name for name, other in names.items()):
        return None
    correction = None if means.correction is None else _renamed(means.correction, names)
    return replace(means, measured=_renamed(means.measured, names), correction=correction)


def _renamed(moments: Moments, names: Mapping[str, str]) -> Moments:
    changed: dict[str, Any] = {}
    for field in fields(moments):
        value = getattr(moments, field.name)
        if isinstance(value, Mapping):
            changed[field.name] = {names[layer]: values for layer, values in value.items()}
    return replace(moments, **changed)
