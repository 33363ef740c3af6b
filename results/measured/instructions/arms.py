"""The arms of the study: what each is told beside the scenario, its protocol and its seeds."""

from __future__ import annotations

DECAYS = (0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999)
CONSTANTS = (0.02, 0.1, 1.0)
RATES = (0.003, 0.005)
ROUTED = ["scenario.style=families", "model.adapter.rank=8", "strategy.lr=0.005"]
MEMORY = ["strategy.memory.capacity=160", "strategy.memory.batch_size=8"]

ARMS: dict[str, list[str]] = {
    "naive": ["strategy=naive"],
    "hft": ["strategy=hft"],
    "hft, layer": ["strategy=hft", "strategy.level=layer"],
    "hft, model": ["strategy=hft", "strategy.level=model"],
    "hft, one mask": ["strategy=hft", "strategy.redraw=false"],
    "half_reset": ["strategy=half_reset"],
    "replay": ["strategy=replay", *MEMORY],
    "hft, replay": ["strategy=hft", *MEMORY],
    "ewc": ["strategy=ewc", "strategy.strength=1000", "strategy.fisher_examples=64"],
    "lwf": ["strategy=lwf"],
    "l2sp": ["strategy=l2sp"],
    "wise_ft": ["strategy=wise_ft"],
    **{f"fixed_ema {decay}": ["strategy=fixed_ema", f"strategy.decay={decay}"] for decay in DECAYS},
    "coin, code 2": ["strategy=coin"],
    "coin, code 0.01": ["strategy=coin", "strategy.constant=0.01", "strategy.fallback=0.001"],
    "coin, paper": ["strategy=coin", "strategy.mode=paper"],
    **{
        f"coin, paper_new {constant}": ["strategy=coin", "strategy.mode=paper_new", f"strategy.constant={constant}"]
        for constant in CONSTANTS
    },
    **{f"lora {rate}": ["strategy=lora", f"strategy.lr={rate}"] for rate in RATES},
    "olora": ["strategy=olora", "strategy.lr=0.005"],
    "families, naive": ["strategy=naive", *ROUTED],
    "families, naive routed": ["strategy=naive", *ROUTED, "model.adapter.routing=nearest"],
    "families, coin": ["strategy=coin", *ROUTED],
    "families, coin routed": ["strategy=coin", *ROUTED, "model.adapter.routing=nearest"],
}

SHARED = ("scenario=instructions", "protocol=single", "protocol.seeds=[0,1,2,3,4]")
