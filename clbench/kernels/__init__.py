"""Operations on whole batches where they lie: the torch reference is the definition, a Triton kernel may stand in.

One operation per file and one public name per operation: `replay_gather`, `replay_rrc`, `ema_merge_`. `dispatch`
chooses between reference and kernel. The kernels are in `compiled`, the only package that imports Triton, which no run
without a GPU pays for. On a GPU each kernel rounds where its reference rounds.
"""
