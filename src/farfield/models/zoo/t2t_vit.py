"""T2T-ViT-24: a vision transformer whose tokens are made of pictures step by step, under the names of the tensors in its authors' checkpoint."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

WIDTH, DEPTH, HEADS, SIDE = 512, 24, 8, 14  # SIDE: tokens of a side, of 224 pixels
TOKEN, FEATURES = 64, 32  # of the token encoder: its width, and half as many random features
EPSILON = 1e-8


def positive_features(x: Float[Tensor, "n t d"], w: Float[Tensor, "m d"]) -> Float[Tensor, "n t m"]:
    """Random features whose products estimate `exp(x . y)`: `phi(x) = exp(w x - |x|^2 / 2) / sqrt(m)`.

    Args:
        x: `(n, t, d)`, queries or keys.
        w: `(m, d)`, the random directions.

    >>> positive_features(torch.zeros(1, 1, 2), torch.ones(4, 2))
    tensor([[[0.5000, 0.5000, 0.5000, 0.5000]]])

    Source: Choromanski et al., Rethinking Attention with Performers, ICLR 2021, lemma 1.
    """
    return torch.exp(x @ w.T - x.square().sum(-1, keepdim=True) / 2) / math.sqrt(len(w))


class TokenPerformer(nn.Module):
    """One layer of attention in linear time that also narrows its tokens, then a small network: `y = v + proj(attention)`, `y + mlp(norm(y))`.

    `attention_i = phi(q_i) . sum_j phi(k_j) v_j^T / (phi(q_i) . sum_j phi(k_j))`; the values take the place of the tokens in the sum, as the widths differ.

    Args:
        inputs: width of the tokens that come in.

    Source: Yuan et al., Tokens-to-Token ViT, ICCV 2021; `positive_features`.
    """

    w: Tensor

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.kqv = nn.Linear(inputs, 3 * TOKEN)
        self.proj = nn.Linear(TOKEN, TOKEN)
        self.norm1 = nn.LayerNorm(inputs)
        self.norm2 = nn.LayerNorm(TOKEN)
        self.dp = nn.Dropout(0.1)
        self.mlp = nn.Sequential(nn.Linear(TOKEN, TOKEN), nn.GELU(), nn.Linear(TOKEN, TOKEN), nn.Dropout(0.1))
        # Orthogonal directions of length sqrt(m), as the authors draw them; fixed, so no parameter, though their checkpoint has them.
        self.register_buffer("w", nn.init.orthogonal_(torch.empty(FEATURES, TOKEN)) * math.sqrt(FEATURES))

    def attention(self, x: Float[Tensor, "n t i"]) -> tuple[Float[Tensor, "n t d"], Float[Tensor, "n t d"]]:
        """The values, and what attention makes of them."""
        key, query, value = self.kqv(x).chunk(3, dim=-1)
        k, q = positive_features(key, self.w), positive_features(query, self.w)
        mixed = q @ (k.transpose(1, 2) @ value)
        total = q @ k.sum(1).unsqueeze(2)
        return value, mixed / (total + EPSILON)

    def forward(self, x: Float[Tensor, "n t i"]) -> Float[Tensor, "n t d"]:
        """The tokens after it."""
        value, mixed = self.attention(self.norm1(x))
        x = value + self.dp(self.proj(mixed))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class TokensToToken(nn.Module):
    """Three soft splits, overlapping windows each of which becomes a token, with a layer of attention after the first and the second."""

    def __init__(self) -> None:
        super().__init__()
        self.soft_split0 = nn.Unfold(7, stride=4, padding=2)
        self.soft_split1 = nn.Unfold(3, stride=2, padding=1)
        self.soft_split2 = nn.Unfold(3, stride=2, padding=1)
        self.attention1 = TokenPerformer(3 * 7 * 7)
        self.attention2 = TokenPerformer(TOKEN * 3 * 3)
        self.project = nn.Linear(TOKEN * 3 * 3, WIDTH)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n t d"]:
        """The tokens of pictures."""
        x = self.attention1(self.soft_split0(x).transpose(1, 2))
        x = self.attention2(self.soft_split1(_as_maps(x)).transpose(1, 2))
        tokens: Tensor = self.project(self.soft_split2(_as_maps(x)).transpose(1, 2))
        return tokens


def _as_maps(x: Float[Tensor, "n t d"]) -> Float[Tensor, "n d side side"]:
    """Tokens in the square they came from."""
    side = math.isqrt(x.shape[1])
    return x.transpose(1, 2).reshape(len(x), -1, side, side)


def sinusoids(count: int, width: int) -> Float[Tensor, "1 count width"]:
    """Places as `sin(p / 10000^(2i / width))` and the cosine of the same, in turn.

    >>> sinusoids(2, 4)[0, 0]
    tensor([0., 1., 0., 1.])

    Source: Vaswani et al., Attention Is All You Need, 2017, section 3.5.
    """
    rates = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(count, dtype=torch.float64)[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1).float()[None]


class T2TViT24(nn.Module):
    """Tokens-to-token with performers, then 24 transformer blocks of width 512 and 8 heads; the logits are of the class token after the norm.

    Args:
        classes: how many logits it has.

    Source: Yuan et al., Tokens-to-Token ViT: Training Vision Transformers from Scratch on ImageNet, ICCV 2021, tables 1 and 2.
    """

    pos_embed: Tensor

    def __init__(self, classes: int) -> None:
        from timm.models.vision_transformer import Block

        super().__init__()
        norm: Any = partial(nn.LayerNorm, eps=1e-5)
        self.num_classes = classes
        self.tokens_to_token = TokensToToken()
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, WIDTH))
        self.register_buffer("pos_embed", sinusoids(SIDE * SIDE + 1, WIDTH))
        self.blocks = nn.ModuleList(Block(WIDTH, HEADS, mlp_ratio=3.0, norm_layer=norm) for _ in range(DEPTH))
        self.norm = norm(WIDTH)
        self.head = nn.Linear(WIDTH, classes)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def forward(self, x: Float[Tensor, "n 3 224 224"]) -> Float[Tensor, "n c"]:
        """The logits."""
        tokens = self.tokens_to_token(x)
        tokens = torch.cat((self.cls_token.expand(len(x), -1, -1), tokens), dim=1) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        logits: Tensor = self.head(self.norm(tokens)[:, 0])
        return logits
