"""The stages of the recipe that makes the tiny base model; `helpers.tiny.pretrain` runs them."""
