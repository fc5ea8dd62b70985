"""What a step and a validation come to, worked out beside them."""

from __future__ import annotations

import pytest
import torch

from hpskit.dataset.reading import DataSet, open_data
from hpskit.errors import DivergedError
from hpskit.training.batch import Batch
from hpskit.training.devices import accelerator_for
from hpskit.training.engine import Engine
from hpskit.training.examples import Loader, batches
from hpskit.training.recipes import Recipe, tiny
from hpskit.training.student import Student
from hpskit.training.validation import validate
from made_up_task import write_task
from small_network import SMALL, register_small


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    folder = tmp_path_factory.mktemp("task")
    register_small(folder)
    write_task(folder, pairs=8, seed=0)
    return open_data(str(folder / "train.json"))


def engine_of(*settings: str) -> Engine:
    fixed = (f"architecture={SMALL}", "precision=fp32", "lr=1e-2", "warmup=1", "ema=none", "clip=none")
    recipe: Recipe = tiny().with_settings(fixed).with_settings(settings)
    return Engine(recipe, accelerator_for(recipe, "cpu"), Student.build(recipe))


def batch_of(engine: Engine, data: DataSet) -> Batch:
    return next(batches(data, Loader(preprocessing=engine.student.preprocessing, workers=0), pairs=4))


def copy(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def test_the_moving_average_follows_at_its_rate_and_is_what_is_validated(data: DataSet) -> None:
    engine = engine_of("ema=0.75")
    batch, expected = batch_of(engine, data), copy(engine.student.state())
    for number in range(3):
        engine.step(batch, number)
        expected = {n: 0.75 * expected[n] + 0.25 * tensor for n, tensor in engine.student.state().items()}
    before = copy(engine.student.state())
    averaged = engine.weights()
    for name, tensor in expected.items():
        torch.testing.assert_close(averaged[name], tensor, rtol=1e-5, atol=1e-6)
    plain = engine_of()
    plain.student.network.load_state_dict(averaged)
    assert validate(engine, data).to_json() == validate(plain, data).to_json()
    assert all(torch.equal(before[name], tensor) for name, tensor in engine.student.state().items())
    plain.student.network.load_state_dict(before)
    assert validate(engine, data).loss != validate(plain, data).loss


def test_the_gradient_is_clipped_to_the_norm_of_the_recipe(data: DataSet) -> None:
    """Seen in AdamW's first moment, which is a tenth of the first gradient."""
    for settings, expected in (((), None), (("clip=0.01",), 0.01)):
        engine = engine_of(*settings)
        norm = engine.step(batch_of(engine, data), 0).gradient_norm
        assert norm is not None
        assert norm > 0.02
        moments = [tensor for name, tensor in engine.training_state().items() if name.startswith("exp_avg/")]
        rate = 1 - engine.recipe.betas[0]
        assert float(torch.cat([m.flatten() for m in moments]).norm()) / rate == pytest.approx(
            expected or norm, rel=1e-3
        )


def test_logit_scale_stays_below_its_limit(data: DataSet) -> None:
    engine = engine_of("max_logit_scale=2")
    assert engine.logit_scale > 2
    assert engine.step(batch_of(engine, data), 0).logit_scale == pytest.approx(2)


def test_scores_that_are_no_numbers_are_an_error_with_a_cure(data: DataSet) -> None:
    engine = engine_of()
    torch.nn.init.constant_(engine.student.network.visual.proj, torch.nan)
    with pytest.raises(DivergedError, match=r"train\.json: images of '.*' have scores that are no numbers; the last"):
        validate(engine, data)
