"""The TDX module behind SEAMCALL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.platform.tdx.config import ModuleConfig
from harness.platform.tdx.layout import Layout
from harness.platform.tdx.seamcall import Completion, Memory, Registers, VmFailInvalid


class TdxModule:
    """The module of one machine from power-on."""

    def __init__(self, config: ModuleConfig, layout: Layout) -> None:
        self.config = config
        self.layout = layout

    def seamcall(self, lp: int, registers: Registers, memory: Memory) -> Completion:
        """Answers one SEAMCALL of a logical processor that is in VMX root operation."""
        return VmFailInvalid()

    def reset(self) -> None:
        """The platform was reset."""

    @property
    def summary(self) -> dict[str, Any]:
        """The state for samples and reports."""
        return {"state": "pending"}

    def to_json(self) -> dict[str, Any]:
        return {"config": self.config.to_json(), "layout": self.layout.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TdxModule:
        return cls(ModuleConfig.from_json(data["config"]), Layout.from_json(data["layout"]))
