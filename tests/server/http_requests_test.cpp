// What a server says to bytes that come from anybody. tests/fuzz/corpus/http has a request in each file, whose name begins with the status.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "http_client.h"
#include "http_test_server.h"
#include "server/http_reader.h"

namespace tessera::server {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::vector<std::filesystem::path> request_files() {
  std::vector<std::filesystem::path> files;
  for (const auto& file : std::filesystem::directory_iterator(TESSERA_HTTP_REQUESTS)) files.push_back(file.path());
  std::ranges::sort(files);
  EXPECT_GE(files.size(), 45u);
  return files;
}

TEST(http_requests, each_of_the_table_has_its_status_and_no_refused_one_is_followed_by_another) {
  TestServer server;
  for (const auto& path : request_files()) {
    SCOPED_TRACE(path.filename());
    const int status = std::stoi(path.filename());
    const std::string request = read(path);
    HttpClient client = server.client();
    client.send(request);
    const std::string head = request.starts_with("HEAD") ? client.read_to("\r\n\r\n") : client.response().head;
    EXPECT_THAT(head, StartsWith("HTTP/1.1 " + std::to_string(status)));
    client.send("GET /health?last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    const auto rest = client.read_all();
    ASSERT_TRUE(rest) << "the connection is open";
    if (status == 200 || status == 404 || status == 405) {
      EXPECT_THAT(*rest, StartsWith("HTTP/1.1 200"));
      EXPECT_THAT(*rest, HasSubstr("X-Query: last\r\n"));
    } else {
      EXPECT_EQ(*rest, "");
      EXPECT_THAT(head, HasSubstr("Connection: close\r\n"));
    }
    EXPECT_EQ(server.client().get("/health").body, "well");
  }
}

// What comes of the bytes, given to a reader `piece` by piece.
std::string outcome(std::string_view bytes, size_t piece) {
  HttpReader reader(8192, 100, 8 << 20);
  std::string in;
  try {
    while (!reader.is_done()) {
      const bool had_head = reader.has_head();
      const size_t taken = reader.put(in);
      in.erase(0, taken);
      if (reader.has_head() && !had_head) reader.read_body();
      if (taken > 0) continue;
      if (bytes.empty()) return "not whole";
      in += bytes.substr(0, piece);
      bytes.remove_prefix(std::min(piece, bytes.size()));
    }
  } catch (const HttpError& error) {
    return "refused";
  }
  const HttpRequest request = reader.take_request();
  return request.method + ' ' + request.path + '?' + request.query + ' ' + request.body;
}

TEST(http_requests, read_byte_by_byte_each_of_the_table_is_the_same) {
  for (const auto& path : request_files()) {
    const std::string request = read(path), whole = outcome(request, request.size());
    for (const size_t piece : {1, 2, 3, 7}) EXPECT_EQ(outcome(request, piece), whole) << path.filename() << ' ' << piece;
  }
}

TEST(http_requests, a_body_is_of_json_and_not_compressed) {
  TestServer server;
  const auto status = [&](const std::string& headers) {
    HttpClient client = server.client();
    client.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n" + headers + "\r\n{}");
    return client.response().status;
  };
  EXPECT_EQ(status("Content-Type: application/json\r\n"), 200);
  EXPECT_EQ(status("Content-Type: Application/JSON ; charset=\"UTF-8\"\r\n"), 200);
  EXPECT_EQ(status("content-type: application/json; charset=utf-8\r\n"), 200);
  EXPECT_EQ(status("Content-Type: application/json\r\nContent-Encoding: identity\r\n"), 200);
  EXPECT_EQ(status(""), 415);
  EXPECT_EQ(status("Content-Type: text/plain\r\n"), 415);
  EXPECT_EQ(status("Content-Type: application/jsonx\r\n"), 415);
  EXPECT_EQ(status("Content-Type: application/x-www-form-urlencoded\r\n"), 415);
  EXPECT_EQ(status("Content-Type: multipart/form-data; boundary=application/json\r\n"), 415);
  EXPECT_EQ(status("Content-Type: application/json\r\nContent-Type: text/plain\r\n"), 415);
  EXPECT_EQ(status("Content-Type: application/json; charset=utf-16\r\n"), 415);
  EXPECT_EQ(status("Content-Type: application/json\r\nContent-Encoding: gzip\r\n"), 415);
  EXPECT_EQ(server.refused("unsupported_media_type"), 8);
}

TEST(http_requests, a_body_over_the_limit_is_refused_by_its_length_and_by_its_chunks) {
  TestServer server({.limits = {.body_bytes = 1000}});
  HttpClient client = server.client();
  EXPECT_EQ(client.post("/echo", std::string(1000, 'x')).status, 200);
  EXPECT_EQ(client.post("/echo", std::string(1001, 'x')).status, 413);
  HttpClient chunks = server.client();
  chunks.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 10; ++i) chunks.send("64\r\n" + std::string(100, 'x') + "\r\n");
  EXPECT_FALSE(chunks.more(50ms)) << "the limit is reached, and not passed";
  chunks.send("1\r\nx\r\n0\r\n\r\n");
  EXPECT_EQ(chunks.response().status, 413);
  EXPECT_TRUE(chunks.read_all());
  EXPECT_EQ(server.refused("body_too_large"), 2);
}

TEST(http_requests, all_bodies_together_have_a_limit) {
  TestServer server({.limits = {.bodies_bytes = 100'000}});
  HttpClient clients[] = {server.client(), server.client()};
  for (HttpClient& client : clients)
    client.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 90000\r\n\r\n" +
                std::string(60'000, 'x'));
  int refused = -1;
  ASSERT_TRUE(comes([&] {
    for (int i = 0; i < 2; ++i)
      if (clients[i].more(1ms)) refused = i;
    return refused >= 0;
  }));
  EXPECT_EQ(clients[refused].response().status, 503);
  clients[1 - refused].send(std::string(30'000, 'x'));
  EXPECT_EQ(clients[1 - refused].response().body.size(), 90'000u);
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(clients[1 - refused].post("/echo", std::string(90'000, 'x')).status, 200) << "what was taken counts no more";
  EXPECT_EQ(server.refused("bodies"), 1);
}

TEST(http_requests, a_client_can_send_all_of_a_body_that_is_refused_and_reads_why) {
  TestServer server({.limits = {.linger = kPatience}});
  HttpClient client = server.client();
  EXPECT_TRUE(client.send_post("/echo", std::string(20'000'000, 'x')));
  EXPECT_EQ(client.response().status, 413);
}

TEST(http_requests, who_waits_for_leave_to_send_a_body_is_told_to_go_on_or_refused) {
  TestServer server;
  const auto head = [](const std::string& more) {
    return "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n" +
           more + "\r\n";
  };
  HttpClient client = server.client();
  client.send(head(""));
  EXPECT_EQ(client.read_to("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("{}");
  EXPECT_EQ(client.response().body, "{}");
  HttpClient refused = server.client();
  refused.send(head("Authorization: wrong\r\n"));
  EXPECT_EQ(refused.response().status, 401);
  EXPECT_TRUE(refused.read_all());
}

TEST(http_requests, a_request_that_is_refused_before_its_body_ends_the_connection_and_one_without_a_body_does_not) {
  TestServer server;
  HttpClient client = server.client();
  EXPECT_EQ(client.get("/nowhere").status, 404);
  EXPECT_EQ(client.get("/echo").status, 404);
  EXPECT_EQ(client.get("/health").status, 200);
  EXPECT_EQ(client.post("/nowhere", "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 404);
  EXPECT_EQ(client.read_all(), "");
}

struct Sender {
  std::string path, headers;
  int status;
};

TEST(http_requests, hosts_and_origins_are_held_to_the_lists) {
  TestServer server({.allowed_hosts = {"Box.example"}, .cors_origins = {"https://chat.example"}});
  for (const Sender& sender :
       std::vector<Sender>{{"/echo", "Host: localhost:8000\r\n", 200},
                           {"/echo", "Host: 127.0.0.1\r\n", 200},
                           {"/echo", "Host: [::1]:1\r\n", 200},
                           {"/echo", "Host: box.EXAMPLE:443\r\n", 200},
                           {"/echo", "Host: evil.example\r\n", 403},
                           {"/echo", "Host: localhost.evil.example\r\n", 403},
                           {"/echo", "Host: xlocalhost\r\n", 403},
                           {"/echo", "Host: box.example.\r\n", 403},
                           {"/echo", "Host: 127.0.0.2\r\n", 403},
                           {"/health", "Host: evil.example\r\n", 200},
                           {"/health", "Host: evil.example\r\nOrigin: http://evil.example\r\n", 200},
                           {"/health", "Host: localhost\r\nOrigin: http://evil.example\r\n", 403},
                           {"/echo", "Host: localhost:8000\r\nOrigin: http://localhost:8000\r\n", 200},
                           {"/echo", "Host: localhost:8000\r\nOrigin: http://localhost:3000\r\n", 403},
                           {"/echo", "Host: localhost\r\nOrigin: null\r\n", 403},
                           {"/echo", "Host: localhost\r\nOrigin: file://\r\n", 403},
                           {"/echo", "Host: localhost\r\nOrigin: http://localhost.evil.example\r\n", 403},
                           {"/echo", "Host: localhost\r\nOrigin: https://chat.example\r\n", 200},
                           {"/echo", "Host: localhost\r\nOrigin: http://chat.example\r\n", 403},
                           {"/echo", "Host: localhost\r\nOrigin: https://chat.example\r\nOrigin: https://chat.example\r\n", 403}}) {
    HttpClient client = server.client();
    const std::string method = sender.path == "/health" ? "GET " : "POST ";
    client.send(method + sender.path + " HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 0\r\n" + sender.headers + "\r\n");
    const ClientResponse response = client.response();
    EXPECT_EQ(response.status, sender.status) << sender.path << ' ' << sender.headers;
    const bool is_cors = sender.status == 200 && sender.headers.find("chat.example") != std::string::npos;
    EXPECT_EQ(response.head.find("Access-Control-Allow-Origin: https://chat.example\r\n") != std::string::npos, is_cors) << sender.headers;
  }
  TestServer open({.check_hosts = false});
  HttpClient client = open.client();
  client.send("GET /health HTTP/1.1\r\nHost: any.example\r\n\r\n");
  EXPECT_EQ(client.response().status, 200);
}

TEST(http_requests, a_preflight_is_answered_for_the_origins_that_may_and_for_no_others) {
  TestServer server({.cors_origins = {"https://chat.example"}});
  const auto ask = [&](const std::string& origin) {
    HttpClient client = server.client();
    client.send("OPTIONS /echo HTTP/1.1\r\nHost: localhost\r\nOrigin: " + origin +
                "\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,x-a\r\n\r\n");
    return client.response();
  };
  const ClientResponse response = ask("https://chat.example");
  EXPECT_EQ(response.status, 204);
  EXPECT_THAT(response.head, HasSubstr("Access-Control-Allow-Origin: https://chat.example\r\n"));
  EXPECT_THAT(response.head, HasSubstr("Access-Control-Allow-Headers: authorization,x-a\r\n"));
  EXPECT_THAT(response.head, HasSubstr("Access-Control-Allow-Methods: GET, POST\r\n"));
  EXPECT_EQ(ask("https://evil.example").status, 403);
  EXPECT_EQ(ask("http://localhost").status, 404) << "of the server's own page: no method of the handler's";
}

TEST(http_requests, a_head_is_a_get_without_a_body) {
  TestServer server;
  HttpClient client = server.client();
  client.send("HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_THAT(client.read_to("\r\n\r\n"), HasSubstr("Content-Length: 4\r\n"));
  EXPECT_EQ(client.get("/health").body, "well");
}

TEST(http_requests, http_1_0_ends_the_connection_unless_it_asks_otherwise) {
  TestServer server;
  HttpClient client = server.client();
  client.send("GET /health HTTP/1.0\r\n\r\n");
  EXPECT_THAT(client.read_all().value_or("open"), testing::EndsWith("\r\n\r\nwell"));
  HttpClient kept = server.client();
  for (int i = 0; i < 2; ++i) {
    kept.send("GET /health HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    EXPECT_THAT(kept.response().head, HasSubstr("Connection: keep-alive\r\n"));
  }
  HttpClient closing = server.client();
  closing.send("GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: x, Close\r\n\r\n");
  EXPECT_THAT(closing.read_all().value_or("open"), HasSubstr("Connection: close\r\n"));
}

TEST(http_requests, late_heads_and_bodies_are_408_and_an_idle_connection_is_closed_without_a_word) {
  TestServer server({.limits = {.header = 50ms, .body = 50ms, .idle = 50ms}});
  HttpClient idle = server.client();
  EXPECT_EQ(idle.read_all(), "");
  HttpClient head = server.client();
  head.send("GET /health HTTP/1.1\r\nHost: loc");
  EXPECT_EQ(head.response().status, 408);
  EXPECT_TRUE(head.read_all());
  HttpClient body = server.client();
  body.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{");
  EXPECT_EQ(body.response().status, 408);
  EXPECT_TRUE(body.read_all());
  HttpClient kept = server.client();
  EXPECT_EQ(kept.get("/health").status, 200);
  EXPECT_EQ(kept.read_all(), "");
  EXPECT_EQ(server.refused("request_timeout"), 2);
}

TEST(http_requests, a_head_that_drips_is_late_however_often_something_comes) {
  TestServer server({.limits = {.header = 300ms}});
  HttpClient client = server.client();
  const std::string request = "GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: ";
  client.send(request);
  while (!client.more(10ms) && client.send("a")) {
  }
  EXPECT_EQ(client.response().status, 408);
}

TEST(http_requests, a_request_that_ends_with_its_connection_is_400) {
  TestServer server;
  for (const std::string begun : {"GET /health HTTP/1.1\r\n",
                                  "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                                  "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"}) {
    HttpClient client = server.client();
    client.send(begun);
    client.send_end();
    EXPECT_EQ(client.response().status, 400);
  }
}

}  // namespace
}  // namespace tessera::server
