"""An independent count of matrix products: torch's own formulas, below autograd, on whatever really runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten
IN_PLACE = {aten.addmm_: aten.addmm}  # the same product, which torch's own list leaves out


class Counter(TorchDispatchMode):
    """Floating-point operations while open. (`FlopCounterMode` trips over the hooks of a sweep.)"""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (),
                           kwargs: Mapping[str, Any] | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        packet = IN_PLACE.get(func.overloadpacket, func.overloadpacket)
        if packet in flop_registry:
            self.flops += flop_registry[packet](*args, **{k: v for k, v in (kwargs or {}).items() if k != "out"},
                                                out_val=result)
        return result
