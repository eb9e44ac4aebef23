"""Feast's classes are not compiled a second time; everybody else's types are checked as ever."""

import pytest
from feast import Entity, FeatureView, Field
from feast.data_source import PushSource
from typeguard import TypeCheckError, typechecked


@pytest.mark.parametrize("made", [Entity, FeatureView, Field, PushSource])
def test_feasts_classes_are_as_they_were_written(made: type) -> None:
    assert "TypeCheckMemo" not in vars(made)["__init__"].__code__.co_names
    with pytest.raises(TypeError):  # what Python itself says of it
        made(colour=1)


def test_the_types_of_others_are_checked() -> None:
    @typechecked
    def doubled(number: int) -> int:
        return 2 * number

    assert doubled(2) == 4
    with pytest.raises(TypeCheckError):
        doubled("2")  # type: ignore[arg-type]
