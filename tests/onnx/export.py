"""Makes the models of this folder: PyTorch exports each with both of its exporters and says what it computes.

    pip install torch onnx onnxscript && python export.py

The weights are random, from a seed. NAME.onnx is of torch.onnx.export(dynamo=True), NAME_script.onnx of the exporter
by TorchScript, NAME_14.onnx the same for an older operator set; NAME.npz holds two
inputs and PyTorch's own outputs for them.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
WORDS, LENGTH = 60, 12
EXPORTERS = {
    "": {"dynamo": True, "external_data": False},
    "_script": {"dynamo": False},
    "_14": {"dynamo": False, "opset_version": 14},  # GELU and LayerNorm in parts, axes as attributes
}


class Cnn(nn.Module):
    """Images: what small vision models are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU6(),
            nn.Conv2d(16, 16, 3, padding=1, groups=16),
            nn.Hardswish(),
            nn.Conv2d(16, 16, 1),
            nn.LeakyReLU(0.1),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Conv2d(16, 16, 3, groups=4, dilation=2, padding=2),
            nn.SiLU(),
        )
        self.head = nn.Linear(16, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = self.body(image)
        x = torch.cat([x, torch.nn.functional.avg_pool2d(x, 3, 1, 1)], 1)[:, 8:24]
        return torch.softmax(self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)), -1)


class Keyword(nn.Module):
    """Sound: convolutions over time."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(10, 16, 5, stride=2, padding=2)
        self.norm = nn.BatchNorm1d(16)
        self.second = nn.Conv1d(16, 16, 3, padding=1, groups=16)
        self.pool = nn.MaxPool1d(2)
        self.head = nn.Linear(16 * 8, 4)

    def forward(self, features: Tensor) -> Tensor:
        x = self.pool(torch.tanh(self.second(torch.relu(self.norm(self.first(features))))))
        return self.head(x.flatten(1))


class Recurrent(nn.Module):
    """A classifier of texts: embedding, LSTM or GRU, the mean over the words."""

    def __init__(self, kind: type[nn.RNNBase], bidirectional: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 16)
        self.layer = kind(16, 16, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(32 if bidirectional else 16, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        y, _ = self.layer(self.embedding(tokens))
        return self.head(y.mean(1))


class Encoder(nn.Module):
    """A small transformer encoder with GELU, a padding mask and learned positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 16)
        self.position = nn.Parameter(torch.randn(LENGTH, 16) * 0.1)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        padding = tokens == 0
        x = self.layers(self.embedding(tokens) + self.position, src_key_padding_mask=padding)
        return self.head(x[:, 0])


def models() -> dict[str, tuple[nn.Module, str, Tensor]]:
    """Name -> model, the name of its input, two inputs."""
    torch.manual_seed(7)
    words = torch.randint(1, WORDS, (2, LENGTH))
    words[1, 9:] = 0
    mlp = nn.Sequential(
        nn.Linear(20, 32), nn.ReLU(), nn.LayerNorm(32), nn.Linear(32, 16), nn.GELU(), nn.Linear(16, 4), nn.Sigmoid()
    )
    return {
        "mlp": (mlp, "features", torch.randn(2, 20)),
        "cnn": (Cnn(), "image", torch.randn(2, 3, 24, 24)),
        "keyword": (Keyword(), "features", torch.randn(2, 10, 32)),
        "lstm": (Recurrent(nn.LSTM, True), "tokens", words),
        "gru": (Recurrent(nn.GRU, False), "tokens", words),
        "encoder": (Encoder(), "tokens", words),
    }


def main() -> None:
    warnings.simplefilter("ignore")
    for name, (model, input, x) in models().items():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
        model.eval()
        with torch.no_grad():
            outputs = np.concatenate([model(row[None]).numpy() for row in x])
        np.savez(HERE / f"{name}.npz", inputs=x.numpy(), outputs=outputs)
        for ending, more in EXPORTERS.items():
            path = HERE / f"{name}{ending}.onnx"
            dynamic = {} if more["dynamo"] else {"dynamic_axes": {input: {0: "batch"}}}
            torch.onnx.export(model, (x[:1],), path, input_names=[input], output_names=["scores"], **dynamic, **more)
            slim(path)


def slim(path: Path) -> None:
    """Takes out what says where in whose source each node comes from."""
    model = onnx.load(path)
    for part in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer, model.graph):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    del model.graph.value_info[:]
    onnx.save(model, path)
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
