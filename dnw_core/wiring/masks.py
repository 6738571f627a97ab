"""Masks that a rule keeps: buffers that follow the network everywhere and that no average can blur.

An average of a network (an EMA, SWA) that also averages buffers makes a union, an intersection or noise of masks. But
a mask is not a quantity. So a mask is kept as bytes, beside a stamp that moves with it, and whatever others wrote there
is looked at once, at the next use (saving is one): as many entries as promised, nothing but zeros and ones, a
stamp that is not a mean of others. What fails is an average. The network it belongs to then takes the masks of the one
that it was copied from (``copy.deepcopy``, as every common EMA does), with a warning; if that one is gone, or there is
none, using the network is an error of one sentence. It never computes with more edges than promised.

``state_dict`` holds boolean masks.
"""

from __future__ import annotations

import copy
import warnings
import weakref
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from dnw_core.errors import UserError
from dnw_core.wiring.transforms import is_concrete, version_of

# The stamp is (m, m²) times STAMP_UNIT, m counted modulo STAMP_MOVES: a mean of two such points lies above the parabola
# or between the units, and no rounding of it to whole numbers is a point again.
STAMP_UNIT = 1 << 30
STAMP_MOVES = 1 << 12


class _MaskProperty(property):
    """Marks the properties that read masks."""


def mask_buffer(name: str) -> Any:
    """Return the property through which a rule's class reads its mask ``name``, a boolean tensor.

    ``mask = mask_buffer("mask")`` in the class body, ``self.register_mask("mask", ...)`` in the constructor.
    """

    def read(rule: KeepsMasks) -> Tensor | None:
        return rule.read_mask(name)

    return _MaskProperty(read)


class KeepsMasks(nn.Module):
    """A module with masks. Subclasses declare each with ``mask_buffer`` and register it with ``register_mask``."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, str] = {}  # the attribute that tells how many entries of each mask are true
        self._seen: dict[str, tuple[Tensor, int]] = {}  # the bytes that were found right, and which version of them
        self._copied_from: weakref.ref[KeepsMasks] | None = None
        self._persistent_masks: list[str] = []
        self._constant_masks: dict[str, Tensor] = {}

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Register a buffer; one that the class declares as a mask stays or becomes one.

        PyTorch comes here, too, where a tensor is assigned (``load_state_dict(assign=True)``).
        """
        if isinstance(getattr(type(self), name, None), _MaskProperty):
            self.register_mask(name, tensor, count=self._counts.get(name, "kept_edges"), persistent=persistent)
        else:
            super().register_buffer(name, tensor, persistent)

    def register_mask(
        self, name: str, mask: Tensor | None, *, count: str = "kept_edges", persistent: bool = True
    ) -> None:
        """Keep a boolean mask under this name, which the class has declared with ``mask_buffer``.

        Args:
            name: of the buffer.
            mask: its first values; None for a mask that there is not.
            count: the attribute of the module that tells how many entries are true; "" where any number may be.
            persistent: whether ``state_dict`` holds it; else it never changes.
        """
        self._counts[name] = count
        # not register_buffer, which refuses a name that the class has as a property
        self._buffers[name] = None if mask is None else mask.to(torch.uint8, copy=True)
        if not persistent:
            self._non_persistent_buffers_set.add(name)
            if mask is not None:
                self._constant_masks[name] = mask
        elif mask is not None and name not in self._persistent_masks:
            self._persistent_masks.append(name)
            if "mask_stamp" not in self._buffers:
                self.register_buffer("mask_stamp", torch.zeros(2, dtype=torch.int64), persistent=False)

    def read_mask(self, name: str) -> Tensor | None:
        """Return the mask, boolean, as a view of what is kept.

        Raises:
            AttributeError: if it was never registered.
            UserError: if it was averaged or overwritten, and there is no network to take it from.
        """
        if name not in self._buffers:
            raise AttributeError(f"{type(self).__name__} has no mask {name!r}")
        stored = self._buffers[name]
        if stored is None:
            return None
        if not is_concrete(stored):
            # a view of another type is not in every exporter's vocabulary
            return stored.to(torch.bool)
        seen, version = self._seen.get(name, (None, -1))
        if seen is not stored or version != version_of(stored):
            self._look(name, stored)
        return stored.view(torch.bool)

    @torch.no_grad()
    def write_mask(self, name: str, mask: Tensor) -> None:
        """Take these values for the mask; it is the caller's part that they are as many as promised."""
        stored = self._buffers[name]
        assert stored is not None
        stored.copy_(mask)
        if name in self._persistent_masks:
            self._move_stamp()
        if is_concrete(stored):
            self._seen[name] = (stored, version_of(stored))

    def _move_stamp(self) -> None:
        stamp = self._buffers["mask_stamp"]
        assert stamp is not None
        moves = (stamp[0] // STAMP_UNIT + 1) % STAMP_MOVES
        stamp.copy_(torch.stack([moves, moves * moves]) * STAMP_UNIT)

    def _look(self, name: str, stored: Tensor) -> None:
        """See that what somebody else wrote is a mask of the promised count, or take the one of the copied network."""
        if not self._is_right(name, stored):
            found = int(stored.count_nonzero())
            if name in self._constant_masks:
                self.write_mask(name, self._constant_masks[name])
                return
            source = None if self._copied_from is None else self._copied_from()
            if source is None:
                raise UserError(
                    f"a mask of a {type(self).__name__} rule ({self._shape_of(stored)}; {found} entries set, "
                    f"{self._promised(name, found)} promised) was averaged or overwritten; "
                    "average the parameters alone (AveragedModel with use_buffers=False), or average into a "
                    "copy.deepcopy of the network while that network is kept: then the copy takes its masks"
                )
            warnings.warn(
                "the masks of a copied network were averaged, but a mask is not a quantity: the copy takes those of "
                "the network that it was copied from",
                stacklevel=2,
            )
            self._take_over(source)
        self._seen[name] = (stored, version_of(stored))

    def _is_right(self, name: str, stored: Tensor) -> bool:
        found = int(stored.count_nonzero())
        if int(stored.sum(dtype=torch.int64)) != found or self._promised(name, found) != found:
            return False
        if name not in self._persistent_masks:
            return True
        stamp = self._buffers["mask_stamp"]
        assert stamp is not None
        m, square = stamp.tolist()
        return bool(m % STAMP_UNIT == 0 and square == (m // STAMP_UNIT) ** 2 * STAMP_UNIT)

    def _promised(self, name: str, found: int) -> int:
        count = self._counts[name]
        return int(getattr(self, count)) if count else found

    @torch.no_grad()
    def _take_over(self, source: KeepsMasks) -> None:
        """Take all that the other module keeps in buffers, its masks looked at first."""
        for name in source._persistent_masks:
            source.read_mask(name)
        for name, own in self._buffers.items():
            other = source._buffers.get(name)
            if own is not None and other is not None:
                own.copy_(other)

    @staticmethod
    def _shape_of(stored: Tensor) -> str:
        return "x".join(str(size) for size in stored.shape)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return an independent copy that remembers which module it was copied from."""
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        for name, value in self.__getstate__().items():
            copied.__dict__[name] = copy.deepcopy(value, memo)
        copied._copied_from = weakref.ref(self)
        return copied

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_seen": {}, "_copied_from": None}

    def resumed(self) -> None:
        """Forget what is known of a moment in training, as a state of another one has been loaded. Default: nothing."""

    def train(self, mode: bool = True) -> Self:
        """Set the mode. Masks are looked at anew at the next use: what was written through ``.data`` has no version."""
        self._seen.clear()
        return super().train(mode)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        # saving is a use, too: an average that was never evaluated must not be what is loaded later
        for name in self._persistent_masks:
            self.read_mask(name)
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in self._persistent_masks:
            saved = destination[prefix + name]
            # the same storage, so that what is written there is seen
            destination[prefix + name] = saved.view(torch.bool) if is_concrete(saved) else saved.to(torch.bool)

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        given = dict(state_dict)
        keys = [key for name in self._persistent_masks if (key := prefix + name) in given]
        for key in keys:
            if isinstance(given[key], Tensor):
                given[key] = given[key].to(torch.uint8)
        super()._load_from_state_dict(given, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        self.resumed()
        for key in () if error_msgs else keys:
            stored = self._buffers[key.removeprefix(prefix)]
            assert stored is not None
            if is_concrete(stored) and not self._is_right(key.removeprefix(prefix), stored):
                found = int(stored.count_nonzero())
                promised = self._promised(key.removeprefix(prefix), found)
                error_msgs.append(f"{key} has {found} entries that are set; {promised} are promised")
