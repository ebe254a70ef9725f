"""tests/api/api_tool: the readers and the writers of requests and answers, without a model."""
import json
import subprocess

import pytest


class ApiTool:
    def __init__(self, build):
        self.path = build / "tests/api/api_tool"
        if not self.path.exists():
            pytest.skip(f"{self.path} is not built: run `make build`")

    def run(self, mode, lines):
        done = subprocess.run([self.path, mode], input="".join(json.dumps(line) + "\n" for line in lines), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        answers = [json.loads(line) for line in done.stdout.split("\n")[:-1]]
        assert len(answers) == len(lines)
        return answers

    def read(self, requests):
        """Of (url, body): {"fields"} or {"error", "status"}."""
        return self.run("read", [{"url": url, "body": body} for url, body in requests])
