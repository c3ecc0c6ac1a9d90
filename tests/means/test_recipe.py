"""Recipes as JSON, and damaged ones."""

import json
from dataclasses import replace
from typing import Any

import pytest

from vggnorm.means.recipe import Recipe
from vggnorm.photos.blocks import Part


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"size": "224"}, "the recipe's size is '224'"),
        ({"seed": True}, "the recipe's seed is True"),
        ({"network": 16}, "the recipe's network is 16"),
        ({"fit": "squeeze"}, "fit is 'squeeze'"),
        ({"interpolation": "cubic"}, "interpolation is 'cubic'"),
        ({"size": 0}, "size is 0"),
        ({"size": [224, "224"]}, r"the recipe's size is \[224, '224'\]"),
        ({"preprocessing": "vgg"}, "the recipe's preprocessing is 'vgg'"),
        ({"categories": "dog"}, "the recipe's categories is 'dog'"),
        ({"limit": "all"}, "the recipe's limit is 'all'"),
        ({"dense": 0}, "the recipe's dense is 0"),
        ({"precision": "tf32"}, "the recipe's precision is 'tf32'"),
        ({"control": 1.5}, "the recipe's control is 1.5"),
        ({"accuracy": True}, "the recipe's accuracy is True"),
        ({"tolerance": float("nan")}, "the recipe's tolerance is nan"),
        ({"tolerance": -0.1}, "the recipe's tolerance is -0.1"),
        ({"shard": [3]}, r"the recipe's shard is \[3\]"),
        ({"shard": [4, 3]}, r"the recipe's shard is \[4, 3\]"),
        ({"shard": [0, 3]}, r"the recipe's shard is \[0, 3\]"),
        ({"batch_size": None}, "the recipe's batch_size is None"),
        ({"photos_sha256": "1" * 63}, "the recipe's photos_sha256 is '1"),
        ({"taken_sha256": "g" * 64}, "the recipe's taken_sha256 is 'g"),
        ({"padding": "same"}, "the recipe's padding is 'same'"),
        ({"batches_per_block": 0}, "the recipe's batches_per_block is 0"),
        ({"batches_per_block": True}, "the recipe's batches_per_block is True"),
        ({"max_scale": 0}, "the recipe's max_scale is 0"),
        ({"max_scale": "20"}, "the recipe's max_scale is '20'"),
        ({"added": 1}, "the recipe must have the keys network, include_top,"),
    ],
)
def test_damaged_recipes_are_refused(change: dict[str, Any], text: str, recipe: Recipe) -> None:
    with pytest.raises(ValueError, match=text):
        Recipe.from_json(json.dumps(recipe.to_dict() | change))


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"network": "vgg16"'])
def test_what_is_no_recipe_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        Recipe.from_json(text)


def test_a_recipe_without_a_padding_is_one_of_zeros(recipe: Recipe) -> None:
    """Files of version 0.2.0 have every other field."""
    values = recipe.to_dict() | {"color_profiles": "convert", "machine": "a computer"}
    del values["padding"]
    read = Recipe.from_json(json.dumps(values))
    assert (read.padding, read.color_profiles, read.machine) == ("zeros", "convert", "a computer")


def test_a_recipe_says_by_which_blocks_a_part_was_cut(recipe: Recipe) -> None:
    assert recipe.part is None
    part = replace(recipe, shard=(3, 16), batch_size=4, batches_per_block=8)
    assert Recipe.from_json(json.dumps(part.to_dict())).part == Part(3, 16, 32)
    values = part.to_dict()
    del values["batches_per_block"]  # as in files of version 0.2.0
    of_old = Recipe.from_json(json.dumps(values))
    assert of_old.batches_per_block is None
    with pytest.raises(ValueError, match="the parts were not made of blocks"):
        of_old.part  # noqa: B018


def test_the_padding_decides_the_means(recipe: Recipe) -> None:
    reflected = replace(recipe, padding="reflect")
    assert recipe.differences(reflected) == ["padding zeros and reflect"]
    assert Recipe.from_json(json.dumps(reflected.to_dict())) == reflected
