# `make serve` and `make test` work on a fresh clone with Python 3.11 or 3.12 (venv, pip) and make.

PYTHON ?= $(shell for p in python3.12 python3.11 python3; do \
	"$$p" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null \
	&& { echo "$$p"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# make serve TORCH_INDEX=URL installs PyTorch's CPU build from that package index, without 5 GB of CUDA libraries.
TORCH_INDEX ?=

.PHONY: serve test bench gpu-check soak fuzz check audit licences image-check lock weights clean

serve: $(READY)  ## serve on http://127.0.0.1:8000
	$(BIN)/csrn serve

test: $(READY)  ## the fast tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

bench: $(READY)  ## what this machine does, and the guards on its ratios; a few minutes
	$(BIN)/csrn bench score
	$(BIN)/csrn bench serve
	$(BIN)/python -m pytest -m bench tests/benchmarks tests/gpu

gpu-check: $(READY)  ## check scores, speed, memory and a CUDA fault on a GPU; less than eight minutes
	$(BIN)/python -m tests.gpu

soak: $(READY)  ## kills, an attack, 128 cores, a quarter of an hour under load: nothing is lost, memory stays flat
	$(BIN)/python -m pytest -s -m soak

FUZZED := files:images files:archives files:checkpoints files:published_pairs api:requests
INPUTS ?= 100000
SEED ?= 1

fuzz: $(READY)  ## damaged inputs to every parser of untrusted bytes, half an hour: make fuzz INPUTS=1000000 SEED=2
	@failed=0; for target in $(FUZZED); do \
		echo "$$target: progress is in .fuzz/$$target/log"; \
		$(BIN)/python -m tests.fuzz $$target .fuzz/$$target $$(($(INPUTS) / 5)) $(SEED) || failed=1; \
	done; exit $$failed
	FUZZ_EXAMPLES=200 $(BIN)/python -m pytest tests/e2e/test_openapi.py tests/app/sessions/test_any_history.py

check: $(READY) audit  ## lint, formatting, types, layering, the generated client, dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python app/client/generate_sync.py --check

audit: $(READY)  ## the locked dependencies: hashes, licences, and known vulnerabilities if their database can be reached
	! grep -n '://' requirements.lock
	$(BIN)/pip-licenses --output-file $(VENV)/licences.txt
	@$(BIN)/pip-audit --strict --require-hashes --disable-pip -r requirements.lock $(HARMLESS) > $(VENV)/audit.txt 2>&1 \
	&& cat $(VENV)/audit.txt || { grep -E 'could not be audited|Connection|timed out' $(VENV)/audit.txt > /dev/null \
	&& echo "audit: known vulnerabilities were NOT checked, because their database cannot be reached"; } \
	|| { cat $(VENV)/audit.txt; exit 1; }

# protobuf: JSON from clients is never parsed into protobuf messages.
HARMLESS := --ignore-vuln CVE-2026-0994

licences: $(READY)  ## list the licence of every installed package
	$(BIN)/pip-licenses --format markdown --with-urls

image-check: $(READY)  ## build the container image without Docker, drive it, check what deploys it; as root
	tests/deploy/image-check

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 with venv is needed" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	PIP_QUIET=1 PIP_DISABLE_PIP_VERSION_CHECK=1 deploy/install-locked "$(TORCH_INDEX)" $(BIN)/python -m pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

lock:  ## resolve anew; needs uv on the PATH
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
		--generate-hashes --no-annotate --custom-compile-command "make lock" \
		--output-file requirements.lock

BASE4 := --classes happy,neutral,sad,surprise --way 4 --warmup-batch 80
TEACH := --encoder resnet-large --steps 1 --save-every 500

# Keeping freed memory halves the time of a training step on the CPU (docs/training.md).
weights: export MALLOC_MMAP_THRESHOLD_ = 4000000000
weights: export MALLOC_TRIM_THRESHOLD_ = 8000000000
weights: $(READY)  ## train the shipped weights anew, about two and a half hours: make weights FER2013=fer2013.zip LANDMARKER=face_landmarker.task
	$(BIN)/csrn prepare fer2013 $(FER2013) data/fer2013 --blendshapes $(LANDMARKER)
	$(BIN)/csrn train data/fer2013 $(TEACH) --warmup-steps 3000 --out runs/teacher.safetensors --run runs/teacher
	OMP_NUM_THREADS=1 $(BIN)/csrn train data/fer2013 --teacher runs/teacher.safetensors --save-every 400 \
		--out weights/csrn-fer2013.safetensors --run runs/csrn-fer2013
	OMP_NUM_THREADS=1 $(BIN)/csrn train data/fer2013 $(TEACH) $(BASE4) --small-warmup-steps 5000 --warmup-steps 2000 \
		--out runs/teacher-base4.safetensors --run runs/teacher-base4
	OMP_NUM_THREADS=1 $(BIN)/csrn train data/fer2013 $(BASE4) --teacher runs/teacher-base4.safetensors \
		--teacher-share 0.7 --small-warmup-steps 12000 --warmup-steps 6000 --whole-learning-rate 0.001 \
		--no-label-episodes --votes-weight 0.3 --save-every 500 \
		--out weights/csrn-fer2013-base4.safetensors --run runs/csrn-fer2013-base4

clean:
	rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
