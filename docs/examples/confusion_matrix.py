"""Which of my expressions are confused? Teach from a folder, classify the rest, plot a confusion matrix.

The cells (# %%) run one by one in VS Code, PyCharm and Jupyter; `python confusion_matrix.py` runs all.
The photos are in FOLDER/<label>/, as in app/samples.
"""

# %% Settings
import os
import random
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from csrn_client import Client

FOLDER = Path(os.environ.get("PHOTOS", "app/samples"))
EXAMPLES = 4  # photos of each class that are taught; the others are classified
client = Client(os.environ.get("CSRN_URL", "http://127.0.0.1:8000"))

# %% Choose the photos to teach by chance. The seed makes it the same choice every time.
random.seed(0)
taught, asked = [], []
for folder in sorted(FOLDER.iterdir()):
    photos = sorted(folder.glob("*.jpg")) if folder.is_dir() else []
    random.shuffle(photos)
    taught += [(folder.name, photo) for photo in photos[:EXAMPLES]]
    asked += [(folder.name, photo) for photo in photos[EXAMPLES:]]
labels = sorted({label for label, _ in taught})
print(f"{len(taught)} photos to teach, {len(asked)} to classify: {', '.join(labels)}")

# %% Teach. Photos without one clear face are rejected, each with its reason.
session = client.create_session(name=f"confusion matrix of {FOLDER.name}", ttl_s=3600)
for image in client.add_support(session, taught).rejected:
    print(image.filename, image.detail)

# %% Classify
results = client.classify(session, [photo for _, photo in asked]).results
counts: Counter[tuple[str, str]] = Counter()
for (label, _), result in zip(asked, results, strict=True):
    counts[label, (result.faces[0].predicted or "unknown") if result.faces else "no face"] += 1
correct = sum(counts[label, label] for label in labels)
print(f"{correct} of {len(asked)} correct, chance is 1 in {len(labels)}")

# %% Plot. A row is what the photo shows, a column what was predicted.
columns = [*labels, "unknown", "no face"]
table = np.array([[counts[row, column] for column in columns] for row in labels])
shares = table / table.sum(axis=1, keepdims=True).clip(1)
figure, axes = plt.subplots(figsize=(7, 5))
axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right")
axes.set_yticks(range(len(labels)), labels)
axes.set(xlabel="predicted", ylabel="shown", title=f"{correct} of {len(asked)} correct")
for (y, x), count in np.ndenumerate(table):
    if count:
        axes.text(x, y, count, ha="center", va="center", color="white" if shares[y, x] > 0.5 else "black")
figure.savefig("confusion-matrix.png", dpi=150, bbox_inches="tight")
plt.show()

# %% Which examples confuse it? And then forget everything.
for entry in client.get_quality(session).classes:
    print(entry.detail)
client.delete_session(session)
