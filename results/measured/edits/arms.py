"""The arms of the study: what each is told beside the scenario, its protocol and its seeds."""

from __future__ import annotations

SHARED = ("scenario=edits", "protocol=single", "protocol.part=evaluation_half", "protocol.seeds=[0,1,2]")
AT_ONCE = ["scenario.per_experience=null"]
STREAM = ["scenario.edits=200", "scenario.per_experience=20"]
SHARDS = ["scenario.edits=100", "scenario.per_experience=20"]
SPOTS = {
    "L0.down": ["strategy.layer=0", "strategy.module=down", "strategy.lr=0.002"],
    "L3.mlp": ["strategy.layer=3", "strategy.module=mlp", "strategy.lr=0.001"],
    "all": ["strategy.module=all", "strategy.lr=0.0005"],
}
"""Where is tuned, and how fast: the rates that the acceptance tests name."""

ONE_BY_ONE = ["strategy.batch_size=1", "strategy.epochs=25"]

ARMS: dict[str, list[str]] = {
    **{f"df, {spot}": [*AT_ONCE, "strategy=ft_m", *words] for spot, words in SPOTS.items()},
    **{f"bf 1, {spot}": [*AT_ONCE, "strategy=locft_bf", *ONE_BY_ONE, *words] for spot, words in SPOTS.items()},
    **{f"bf 10, {spot}": [*AT_ONCE, "strategy=locft_bf", *words] for spot, words in SPOTS.items()},
    "bf 50, L0.down": [*AT_ONCE, "strategy=locft_bf", "strategy.batch_size=50", *SPOTS["L0.down"]],
    "ft_l, df": [*AT_ONCE, "strategy=ft_l", *SPOTS["L0.down"]],
    "ft_l, bf": [*AT_ONCE, "strategy=ft_l", "strategy.pipeline=breadth_first", *SPOTS["L0.down"]],
    "shards, df": [*SHARDS, "strategy=ft_m", *SPOTS["L0.down"]],
    "shards, bf": [*SHARDS, "strategy=locft_bf", "strategy.access=cumulative_from_base", *SPOTS["L0.down"]],
    **{
        f"stream {spot}, {access}": [*STREAM, "strategy=locft_bf", f"strategy.access={access}", *SPOTS[spot]]
        for spot in ("L0.down", "L3.mlp")
        for access in ("no_replay", "cumulative_continue", "cumulative_from_base")
    },
    **{
        f"stream {spot}, replay 20": [
            *(*STREAM, "strategy=locft_bf", "strategy.access=replay", "strategy.memory.capacity=20"),
            *SPOTS[spot],
        ]
        for spot in ("L0.down", "L3.mlp")
    },
    **{
        f"stream, {name}": [*STREAM, f"strategy={name}", *words]
        for name, words in {
            "naive": ["strategy.lr=0.0005"],
            "hft": ["strategy.lr=0.0005"],
            "replay": ["strategy.lr=0.0005", "strategy.memory.capacity=20", "strategy.memory.policy=reservoir"],
            "lora": ["strategy.lr=0.005"],
            "ft_m": SPOTS["L3.mlp"],
            "memit": [],
            "alphaedit": [],
            "ultraedit": [],
            "grace": [],
        }.items()
    },
}
