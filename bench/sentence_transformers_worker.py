"""Encodes what bench/embeddings.ts sends: one JSON object a line, {"texts": [...]}, answered by {"seconds", "first"}."""

import json
import sys
import time

# A torchvision that does not fit the torch beside it would stop the import; texts need none.
sys.modules["torchvision"] = None

import torch  # noqa: E402
from sentence_transformers import SentenceTransformer, __version__  # noqa: E402

folder, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)
model = SentenceTransformer(folder, device="cpu")
print(json.dumps({"ready": f"sentence-transformers {__version__}, torch {torch.__version__}"}), flush=True)
for line in sys.stdin:
    texts = json.loads(line)["texts"]
    start = time.perf_counter()
    vectors = model.encode(texts, batch_size=32, show_progress_bar=False)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "first": [float(x) for x in vectors[0]]}), flush=True)
