"""The stages of the recipe that makes the tiny base model; `tools.pretrain` runs them."""
