"""The OpenAPI document is valid, says what the application's routes are, and its examples obey it."""

from __future__ import annotations

import json
import re

import pytest
from conftest import make_settings
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.app import create_app
from api.openapi import document, need_of
from api.season_paths import ByMethod
from cli.migrations import ROOT
from shared import errors


def test_it_is_a_valid_document():
    OpenAPIV31SpecValidator(document()).validate()


def test_it_describes_each_route_and_no_other():
    front = create_app(make_settings("postgresql://nobody", "redis://nobody"))
    routes = {
        (re.sub(r":\w+}", "}", route.path), method.lower())
        for route in front.app.routes
        if route.include_in_schema
        for method in route.methods - {"HEAD"}
    }
    described = {(path, method) for path, item in document()["paths"].items() for method in item}
    assert described == routes


def test_it_says_what_each_route_needs():
    front = create_app(make_settings("postgresql://nobody", "redis://nobody"))
    needed = {
        (re.sub(r":\w+}", "}", route.path), method.lower()): endpoint.need
        for route in front.app.routes
        if route.include_in_schema
        for method in route.methods - {"HEAD"}
        for endpoint in [route.app.endpoint(method) if isinstance(route.app, ByMethod) else route.app]
    }
    said = {(path, method): need_of(path, method) for path, item in document()["paths"].items() for method in item}
    assert said == needed


def responses():
    for path, item in document()["paths"].items():
        for method, operation in item.items():
            for status, response in operation["responses"].items():
                if status != "304":  # has no body
                    yield pytest.param(status, response, id=f"{method} {path} {status}")


def assert_valid(schema, example):
    Draft202012Validator({**schema, "components": document()["components"]}).validate(example)


@pytest.mark.parametrize(("status", "response"), list(responses()))
def test_its_answers_obey_their_schemas(status, response):
    for content in response["content"].values():
        examples = [example["value"] for example in content.get("examples", {}).values()] or [content["example"]]
        for example in examples:
            assert_valid(content["schema"], example)
    assert ("Retry-After" in response["headers"]) == (status in ("429", "503") and "code" in examples[0])
    assert ("WWW-Authenticate" in response["headers"]) == (status == "401")


def test_its_parameters_and_bodies_obey_their_schemas():
    for item in document()["paths"].values():
        for operation in item.values():
            for parameter in operation["parameters"]:
                if "example" in parameter:
                    assert_valid(parameter["schema"], parameter["example"])
            if "requestBody" in operation:
                content = operation["requestBody"]["content"]["application/json"]
                assert_valid(content["schema"], content["example"])


def test_its_codes_are_those_of_docs():
    said = {
        example["value"]["code"]
        for item in document()["paths"].values()
        for operation in item.values()
        for status, response in operation["responses"].items()
        if status != "304"
        for content in response["content"].values()
        for example in content.get("examples", {}).values()
    }
    documented = re.findall(r"`([a-z_]+)`", (ROOT / "docs" / "api.md").read_text())
    assert said <= set(documented)
    assert {kind.code for kind in errors.UnavailableError.__subclasses__()} <= said


def test_the_events_of_a_stream_are_what_the_gets_answer():
    (content,) = document()["paths"]["/v1/seasons/{sid}/leaderboard/stream"]["get"]["responses"]["200"][
        "content"
    ].values()
    events = re.findall(r"event: (\w+)\nid: \S+\ndata: (.*)\n", content["example"])
    assert [name for name, _ in events] == ["top", "rank"]
    for name, data in events:
        assert_valid(content["x-events"][name], json.loads(data))
    assert_valid(content["x-events"]["rank"], {"seasonId": "s", "userId": "ann", "rank": None})
