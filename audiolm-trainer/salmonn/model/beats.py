"""The BEATs audio encoder (Chen et al. 2022, arXiv:2212.09058), in the structure of the released files.

Normalised filter banks go in, one token per 16x16 patch comes out. Deep norm, gated relative position bias and a
weight-normed convolutional position, as the released `BEATs_iter3_plus_AS2M*.pt` have them. Own code, because no
maintained package holds this model. A clip's tokens are the same alone and in a batch: padding is masked everywhere.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

GATE_GROUPS, GATE_WIDTH = 2, 4


@dataclass(frozen=True, slots=True)
class BEATsConfig:
    """The fields of a file's `cfg` that shape the encoder; the names and defaults are the file's.

    Training-only fields (dropout, layer drop, predictor) are read past: the encoder is frozen here.
    """

    input_patch_size: int = -1
    embed_dim: int = 512
    conv_bias: bool = False
    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    activation_fn: str = "gelu"
    layer_norm_first: bool = False
    deep_norm: bool = False
    conv_pos: int = 128
    conv_pos_groups: int = 16
    relative_position_embedding: bool = False
    num_buckets: int = 320
    max_distance: int = 1280
    gru_rel_pos: bool = False

    @classmethod
    def from_file(cls, cfg: Mapping[str, Any]) -> "BEATsConfig":
        """Take the known fields of a file's `cfg`.

        Raises:
            ValueError: a field is of another type, or the file describes a variant that no released SALMONN uses; the
                message names the field.
        """
        known = {field.name: cfg[field.name] for field in fields(cls) if field.name in cfg}
        for name, value in known.items():
            wanted = type(getattr(cls(), name))
            if type(value) is not wanted:
                raise ValueError(f"cfg.{name} is {value!r}; a value of type {wanted.__name__} is needed")
        config = cls(**known)
        if config.input_patch_size <= 0:
            raise ValueError(f"cfg.input_patch_size is {config.input_patch_size}; a positive patch size is needed")
        if config.layer_norm_first:
            raise ValueError("cfg.layer_norm_first is True; only the released post-norm form is supported")
        if config.activation_fn != "gelu":
            raise ValueError(f"cfg.activation_fn is {config.activation_fn!r}; only 'gelu' is supported")
        config._check_sizes()
        return config

    def _check_sizes(self) -> None:
        """Refuse sizes that no encoder can have.

        Raises:
            ValueError: naming the field.
        """
        small = [
            f"cfg.{field.name} is {value}"
            for field in fields(self)
            if field.name != "num_buckets" and type(value := getattr(self, field.name)) is int and value < 1
        ]
        if small:
            raise ValueError(f"{', '.join(small)}; sizes are above 0")
        for name in ("encoder_attention_heads", "conv_pos_groups"):
            divisor = getattr(self, name)
            if self.encoder_embed_dim % divisor:
                raise ValueError(
                    f"cfg.encoder_embed_dim is {self.encoder_embed_dim}, no multiple of cfg.{name}, {divisor}"
                )
        if self.relative_position_embedding and not 4 <= self.num_buckets < 4 * self.max_distance:
            raise ValueError(
                f"cfg.num_buckets is {self.num_buckets}; from 4 to below four times cfg.max_distance "
                f"({self.max_distance}) is needed"
            )

    @property
    def residual_scale(self) -> float:
        """Deep norm's alpha, (2 x layers) ** 1/4: 2.2134 for 12 layers; 1 without deep norm."""
        return (2.0 * self.encoder_layers) ** 0.25 if self.deep_norm else 1.0


class PositionalConv(nn.Module):
    """Convolutional position: grouped Conv1d, weight norm over the kernel axis, GELU.

    The last output step of an even kernel is dropped.

    `weight_g` and `weight_v` are parameters of their own because the released files store them so.
    """

    def __init__(self, *, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight_g = nn.Parameter(torch.ones(1, 1, kernel))
        self.weight_v = nn.Parameter(torch.empty(width, width // groups, kernel))
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.weight_v, std=math.sqrt(4.0 / (kernel * width)))
        with torch.no_grad():
            self.weight_g.copy_(self.weight_v.norm(dim=(0, 1), keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        kernel = self.weight_v.shape[2]
        y = functional.conv1d(x.transpose(1, 2), self._weight(), self.bias, padding=kernel // 2, groups=self.groups)
        return functional.gelu(y[:, :, : x.shape[1]]).transpose(1, 2)

    def _weight(self) -> Tensor:
        """The normed kernel, [D, D / groups, kernel].

        Computed anew each time, so that it is never that of older weights; divided in place, because a second large
        tensor took a CPU more time than the division.
        """
        norm = self.weight_v.norm(dim=(0, 1), keepdim=True)
        return (self.weight_g * self.weight_v).div_(norm)


class RelativePositionBias(nn.Module):
    """One table of biases per head and bucketed distance (T5's buckets, both directions), shared by all layers."""

    def __init__(self, *, buckets: int, max_distance: int, heads: int) -> None:
        super().__init__()
        self.buckets = buckets
        self.max_distance = max_distance
        self.weight = nn.Parameter(torch.empty(buckets, heads).normal_(std=0.02))

    def forward(self, length: int) -> Tensor:
        """Biases for `length` tokens: [heads, T, T], indexed by head, query, key."""
        # Key minus query, from the last query and the first key on.
        distance = torch.arange(1 - length, length, device=self.weight.device)
        half = self.buckets // 2
        exact = half // 2
        size = distance.abs()
        ratio = torch.log(size.float().clamp(min=1) / exact) / math.log(self.max_distance / exact)
        far = (exact + (ratio * (half - exact)).long()).clamp(max=half - 1)
        bucket = (distance > 0).long() * half + torch.where(size < exact, size, far)
        by_distance = self.weight[bucket].t().contiguous()
        # A query sees T neighbouring distances: [heads, 2T - 1] -> [heads, T, T], the last query first -> the first.
        # In the order of memory in which every layer reads it.
        return by_distance.unfold(1, length, 1).flip(1).contiguous()


class Attention(nn.Module):
    """Self-attention whose relative position bias is gated per head and query (gated as in WavLM)."""

    def __init__(self, *, width: int, heads: int, gated: bool) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        if gated:
            self.grep_linear = nn.Linear(width // heads, GATE_GROUPS * GATE_WIDTH)
            self.grep_a = nn.Parameter(torch.ones(1, heads, 1, 1))
        self.gated = gated

    def forward(self, x: Tensor, bias: Tensor | None, key_mask: Tensor) -> Tensor:
        """Attend over valid tokens.

        Args:
            x: [B, T, D].
            bias: [heads, T, T], or None.
            key_mask: [B, 1, 1, T] additive, 0 or -inf.
        """
        batch, length, width = x.shape
        # [B, T, D] -> [B, heads, T, D / heads]
        q, k, v = (
            projection(x).view(batch, length, self.heads, -1).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        mask = key_mask
        if bias is not None:
            # One pass over [B, heads, T, T]: such a mask is larger than all else in the layer.
            mask = torch.addcmul(key_mask, self._gate(q), bias) if self.gated else key_mask + bias
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype))
        output: Tensor = self.out_proj(y.transpose(1, 2).reshape(batch, length, width))
        return output

    def _gate(self, q: Tensor) -> Tensor:
        """Gate of every query from its unscaled projection: [B, heads, T, D / heads] -> [B, heads, T, 1]."""
        groups: Tensor = self.grep_linear(q).unflatten(-1, (GATE_GROUPS, GATE_WIDTH)).sum(dim=-1)
        update, reset = groups.sigmoid().chunk(2, dim=-1)
        gate: Tensor = update * (reset * self.grep_a - 1.0) + 2.0
        return gate


class Layer(nn.Module):
    """A post-norm transformer layer with deep norm's scaled residuals."""

    def __init__(self, config: BEATsConfig) -> None:
        super().__init__()
        width = config.encoder_embed_dim
        self.residual_scale = config.residual_scale
        self.self_attn = Attention(
            width=width,
            heads=config.encoder_attention_heads,
            gated=config.gru_rel_pos and config.relative_position_embedding,
        )
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, config.encoder_ffn_embed_dim)
        self.fc2 = nn.Linear(config.encoder_ffn_embed_dim, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, bias: Tensor | None, key_mask: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]; see `Attention.forward` for the masks."""
        x = self.self_attn_layer_norm(self.residual_scale * x + self.self_attn(x, bias, key_mask))
        y = self.fc2(functional.gelu(self.fc1(x)))
        output: Tensor = self.final_layer_norm(self.residual_scale * x + y)
        return output


class Encoder(nn.Module):
    """Convolutional position, then the layers."""

    def __init__(self, config: BEATsConfig) -> None:
        super().__init__()
        width = config.encoder_embed_dim
        self.pos_conv = PositionalConv(width=width, kernel=config.conv_pos, groups=config.conv_pos_groups)
        self.layer_norm = nn.LayerNorm(width)
        self.relative_attention_bias = (
            RelativePositionBias(
                buckets=config.num_buckets,
                max_distance=config.max_distance,
                heads=config.encoder_attention_heads,
            )
            if config.relative_position_embedding
            else None
        )
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.encoder_layers))

    def forward(self, x: Tensor, padding_mask: Tensor) -> Tensor:
        """[B, T, D] and bool [B, T] (True = padding) -> [B, T, D]."""
        x = x.masked_fill(padding_mask[:, :, None], 0.0)
        x = self.layer_norm(x + self.pos_conv(x))
        bias = None if self.relative_attention_bias is None else self.relative_attention_bias(x.shape[1])
        key_mask = torch.zeros(padding_mask.shape, dtype=x.dtype, device=x.device)
        key_mask = key_mask.masked_fill(padding_mask, float("-inf"))[:, None, None, :]
        for layer in self.layers:
            x = layer(x, bias, key_mask)
        return x


class BEATs(nn.Module):
    """The encoder: patches of a normalised filter bank -> tokens."""

    def __init__(self, config: BEATsConfig) -> None:
        super().__init__()
        patch = config.input_patch_size
        self.config = config
        self.patch_embedding = nn.Conv2d(1, config.embed_dim, patch, stride=patch, bias=config.conv_bias)
        self.layer_norm = nn.LayerNorm(config.embed_dim)
        self.post_extract_proj = (
            nn.Linear(config.embed_dim, config.encoder_embed_dim)
            if config.embed_dim != config.encoder_embed_dim
            else None
        )
        self.encoder = Encoder(config)

    def forward(self, fbank: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Encode B filter banks.

        Args:
            fbank: [B, F, M] normalised, F a multiple of the patch size p (16).
            frames: int64 [B], valid frames of each clip, multiples of p.

        Returns:
            Tokens [B, T, D] with T = (F / p) x (M / p), time outer and frequency inner (8 per 160 ms), and the
            padding mask, bool [B, T], True past a clip's own tokens. Values at masked places mean nothing.
        """
        # [B, 1, F, M] -> [B, E, F/p, M/p] -> [B, T, E]
        x = self.patch_embedding(fbank[:, None]).flatten(2).transpose(1, 2)
        x = self.layer_norm(x)
        if self.post_extract_proj is not None:
            x = self.post_extract_proj(x)
        tokens = self.count_tokens(frames.to(x.device), bins=fbank.shape[2])
        padding_mask = torch.arange(x.shape[1], device=x.device)[None, :] >= tokens[:, None]
        return self.encoder(x, padding_mask), padding_mask

    def count_tokens(self, frames: Tensor, *, bins: int) -> Tensor:
        """Tokens of clips with so many valid frames, int64 [B] -> int64 [B]: 8 for every 16 frames of 128 bins."""
        patch = self.config.input_patch_size
        return frames // patch * (bins // patch)
