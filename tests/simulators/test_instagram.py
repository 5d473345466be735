"""The simulated Instagram is as strict as Instagram should be."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from simulators.loopback import Loopback, Reply
from simulators.platforms.instagram import VERSION, InstagramSimulator, instagram_simulator

ADA, GRACE = "17841400000000001", "17841400000000002"


class Api:
    def __init__(self, simulator: InstagramSimulator, video: str) -> None:
        self.simulator = simulator
        self.headers = {"Authorization": f"Bearer {simulator.token_of(ADA)}"}
        self.form = {"media_type": "REELS", "video_url": video, "caption": "A fox"}

    def post(self, path: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        answer = httpx.post(f"{self.simulator.url}/{VERSION}/{path}", data=form, headers=self.headers)
        return answer.status_code, answer.json()

    def get(self, path: str, **params: str) -> tuple[int, dict[str, Any]]:
        answer = httpx.get(f"{self.simulator.url}/{VERSION}/{path}", params=params, headers=self.headers)
        return answer.status_code, answer.json()

    def container(self, **changes: str) -> str:
        status, body = self.post(f"{ADA}/media", self.form | changes)
        assert status == 200, body
        return str(body["id"])


@pytest.fixture
def api() -> Iterator[Api]:
    with Loopback(lambda request: Reply(b"video")) as files, instagram_simulator() as simulator:
        simulator.add_account(ADA, "ada")
        simulator.add_account(GRACE, "grace")
        yield Api(simulator, f"{files.url}/a.mp4")


def code(answer: tuple[int, dict[str, Any]]) -> tuple[int, int | None]:
    status, body = answer
    assert status >= 400
    return body["error"]["code"], body["error"].get("error_subcode")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"unknown": "1"}, (100, None)),
        ({"media_type": "STORIES"}, (100, 2207023)),
        ({"caption": "x" * 2201}, (36004, 2207010)),
        ({"caption": "#a " * 31}, (36004, 2207010)),
        ({"thumb_offset": "1.5"}, (1, 2207057)),
        ({"is_ai_generated": "yes"}, (100, None)),
        ({"video_url": "ftp://example.com/a.mp4"}, (9004, 2207052)),
    ],
    ids=str,
)
def test_a_container_with_a_fault_is_refused(
    api: Api, changes: dict[str, str], expected: tuple[int, int | None]
) -> None:
    assert code(api.post(f"{ADA}/media", api.form | changes)) == expected
    assert api.simulator.containers == {}


def test_a_container_is_published_once_by_its_own_account_when_it_is_ready(api: Api) -> None:
    api.simulator.processing_seconds = 60
    container = api.container()
    publish = {"creation_id": container}
    assert api.get(container, fields="status_code")[1] == {"id": container, "status_code": "IN_PROGRESS"}
    assert code(api.post(f"{ADA}/media_publish", publish)) == (9007, 2207027)
    api.simulator.later(60)
    assert code(api.post(f"{GRACE}/media_publish", publish)) == (100, 33)
    assert api.post(f"{ADA}/media_publish", publish)[0] == 200
    assert api.get(container, fields="status_code")[1]["status_code"] == "PUBLISHED"
    assert code(api.post(f"{ADA}/media_publish", publish)) == (100, None)
    assert len(api.simulator.posts) == 1
    api.simulator.accepts_repeats = True
    assert api.post(f"{ADA}/media_publish", publish)[0] == 200
    assert len(api.simulator.posts) == 2


def test_a_container_that_was_not_published_within_a_day_has_expired(api: Api) -> None:
    container = api.container()
    api.simulator.later(86_400)
    api.headers = {"Authorization": f"Bearer {api.simulator.token_of(ADA)}"}
    assert api.get(container, fields="status_code")[1]["status_code"] == "EXPIRED"
    assert code(api.post(f"{ADA}/media_publish", {"creation_id": container})) == (24, 2207008)


def test_an_account_has_so_many_posts_in_a_day(api: Api) -> None:
    api.simulator.quota = 1
    first, second = api.container(), api.container()
    assert api.post(f"{ADA}/media_publish", {"creation_id": first})[0] == 200
    assert code(api.post(f"{ADA}/media_publish", {"creation_id": second})) == (9, 2207042)
    fields = "config,quota_usage"
    assert api.get(f"{ADA}/content_publishing_limit", fields=fields)[1]["data"][0]["quota_usage"] == 1


def test_unknown_fields_parameters_versions_and_tokens_are_refused(api: Api) -> None:
    assert code(api.get(f"{ADA}/media", fields="id,plays")) == (100, None)
    assert code(api.get(f"{ADA}/media", order="newest")) == (100, None)
    assert code(api.get(f"{GRACE}/media")) == (100, 33)
    assert httpx.get(f"{api.simulator.url}/v1.0/me", headers=api.headers).status_code == 404
    api.headers = {"Authorization": "Bearer nothing"}
    assert code(api.get("me", fields="username")) == (190, None)
    assert httpx.get(f"{api.simulator.url}/oauth/authorize?client_id=another&response_type=code").status_code == 400
