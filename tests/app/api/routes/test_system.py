from __future__ import annotations

from fastapi.testclient import TestClient


def test_health_and_model_need_no_session(client: TestClient) -> None:
    assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
    model = client.get("/v1/model").json()
    assert len(model.pop("weights_sha256")) == 64
    assert set(model.pop("part_weights")) == {"face", "eyes", "lips", "prototype"}
    assert model == {
        "encoder": "conv4",
        "patch_layout": "squares",
        "patch_size": 64,
        "device": "cpu",
        "trained_on": "nothing: seeded for tests",
    }


def test_the_docs_load_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert "://" not in page.text.replace("http://www.w3.org", "")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert client.get("/docs/files/swagger-ui-bundle.js").status_code == 200
