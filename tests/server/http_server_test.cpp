#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "http_client.h"
#include "http_test_server.h"
#include "server/http_server.h"

namespace tessera::server {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

const std::string kHeld = "POST /held HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

TEST(http_server, answers_one_request_after_the_other_on_a_connection) {
  TestServer server;
  HttpClient client = server.client();
  for (int i = 0; i < 3; ++i) {
    const ClientResponse health = client.get("/health?a=1");
    EXPECT_EQ(health.status, 200);
    EXPECT_EQ(health.body, "well");
    EXPECT_THAT(health.head, HasSubstr("X-Query: a=1\r\n"));
    const std::string body(i * 100'000, 'x');
    EXPECT_EQ(client.post("/echo", body).body, body);
  }
}

TEST(http_server, streams_each_send_as_it_comes) {
  TestServer server;
  HttpClient client = server.client();
  client.send(kHeld);
  const auto exchange = server.handler.held();
  exchange->expect_stream({{"X-Request-Id", "7"}});
  EXPECT_FALSE(client.more(50ms)) << "the status line waits for the first events";
  EXPECT_TRUE(exchange->send("data: 1\n\n"));
  const std::string head = client.read_to("\r\n\r\n");
  EXPECT_THAT(head, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(head, HasSubstr("Content-Type: text/event-stream\r\n"));
  EXPECT_THAT(head, HasSubstr("X-Request-Id: 7\r\n"));
  EXPECT_EQ(client.chunk(), "data: 1\n\n");
  EXPECT_TRUE(exchange->send("data: 2\n\n"));
  EXPECT_EQ(client.chunk(), "data: 2\n\n");
  exchange->finish();
  EXPECT_EQ(client.chunk(), "");
  EXPECT_EQ(client.get("/health").status, 200);
}

// What on_gone() is given: it counts.
struct Gone {
  std::atomic<int> times = 0;
  std::function<void()> count() {
    return [this] { ++times; };
  }
};

TEST(http_server, a_silent_stream_begins_with_a_comment_and_has_more_while_it_is_silent) {
  TestServer server({.limits = {.ping = 30ms}});
  HttpClient client = server.client();
  client.send(kHeld);
  const auto exchange = server.handler.held();
  EXPECT_FALSE(client.more(100ms)) << "nobody has said yet that it is a stream";
  exchange->expect_stream();
  EXPECT_THAT(client.read_to("\r\n\r\n"), StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_EQ(client.chunk(), ": ping\n\n");
  EXPECT_EQ(client.chunk(), ": ping\n\n");
  exchange->send("data: 1\n\n");
  exchange->finish();
  std::string rest;
  for (std::string part; !(part = client.chunk()).empty();) rest += part;
  EXPECT_THAT(rest, testing::EndsWith("data: 1\n\n"));
}

TEST(http_server, an_error_before_anything_was_sent_is_a_status_and_later_an_event) {
  TestServer server;
  HttpClient client = server.client();
  client.send(kHeld);
  auto exchange = server.handler.held();
  exchange->expect_stream();
  exchange->fail({.status = 503, .body = "full", .headers = {{"Retry-After", "3"}}}, "data: full\n\n");
  const ClientResponse refused = client.response();
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.body, "full");
  EXPECT_THAT(refused.head, HasSubstr("Retry-After: 3\r\n"));
  client.send(kHeld);
  exchange = server.handler.held();
  exchange->send("data: 1\n\n");
  exchange->fail({.status = 503, .body = "full"}, "data: full\n\n");
  const ClientResponse stream = client.response();
  EXPECT_EQ(stream.status, 200);
  EXPECT_EQ(stream.body, "data: 1\n\ndata: full\n\n");
  EXPECT_EQ(client.read_all(), "");
}

TEST(http_server, an_exchange_that_is_dropped_is_500_and_a_stream_that_is_has_no_end) {
  TestServer server;
  HttpClient client = server.client();
  EXPECT_EQ(client.post("/lost", "{}").status, 500);
  EXPECT_EQ(client.post("/throws", "{}").status, 500);
  client.send(kHeld);
  server.handler.held()->expect_stream();
  EXPECT_EQ(client.response().status, 500);
  client.send(kHeld);
  server.handler.held()->send("data: 1\n\n");
  const std::string stream = client.read_all().value_or("open");
  EXPECT_THAT(stream, testing::EndsWith("9\r\ndata: 1\n\n\r\n"));
}

TEST(http_server, a_whole_answer_is_none_where_a_stream_was_announced) {
  TestServer server;
  HttpClient client = server.client();
  client.send(kHeld);
  const auto exchange = server.handler.held();
  exchange->expect_stream();
  EXPECT_THROW(exchange->respond({}), std::logic_error);
}

TEST(http_server, no_text_of_a_header_begins_another_line) {
  TestServer server;
  HttpClient client = server.client();
  client.send(kHeld);
  server.handler.held()->respond({.body = "x", .content_type = "a\r\nb", .headers = {{"X-Id", "1\r\nSet-Cookie: a=b\n\r\n"}}});
  const ClientResponse response = client.response();
  EXPECT_EQ(response.body, "x");
  EXPECT_THAT(response.head, HasSubstr("X-Id: 1  Set-Cookie: a=b"));
  EXPECT_THAT(response.head, Not(HasSubstr("\nSet-Cookie")));
}

TEST(http_server, pipelined_requests_are_answered_in_their_order) {
  TestServer server;
  HttpClient client = server.client();
  client.send(kHeld + kHeld + "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" + kHeld);
  const auto first = server.handler.held();
  first->send("data: 1\n\n");
  EXPECT_EQ(client.read_to("data: 1\n\n\r\n").substr(0, 15), "HTTP/1.1 200 OK");
  first->finish();
  EXPECT_EQ(client.chunk(), "");
  server.handler.held()->respond({.body = "second"});
  EXPECT_EQ(client.response().body, "second");
  EXPECT_EQ(client.response().body, "well");
  server.handler.held()->respond({.body = "fourth"});
  EXPECT_EQ(client.response().body, "fourth");
}

TEST(http_server, more_pipelined_bytes_than_are_kept_wait_in_the_socket) {
  TestServer server;
  HttpClient client = server.client();
  client.send(kHeld);
  const auto exchange = server.handler.held();
  const std::string body(3'000'000, 'x');
  std::thread sender([&] { client.send_post("/echo", body); });
  std::this_thread::sleep_for(50ms);
  exchange->respond({.body = "first"});
  EXPECT_EQ(client.response().body, "first");
  EXPECT_EQ(client.response().body, body);
  sender.join();
}

TEST(http_server, http_1_0_reads_a_stream_to_the_connections_end) {
  TestServer server;
  HttpClient client = server.client();
  client.send("POST /held HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n{}");
  const auto exchange = server.handler.held();
  exchange->send("data: 1\n\n");
  exchange->send("data: 2\n\n");
  exchange->finish();
  const std::string all = client.read_all().value_or("open");
  EXPECT_THAT(all, testing::EndsWith("\r\n\r\ndata: 1\n\ndata: 2\n\n"));
  EXPECT_THAT(all, HasSubstr("Connection: close\r\n"));
  EXPECT_THAT(all, Not(HasSubstr("chunked")));
}

// How a client may leave, and in which state of its request.
struct Leaving {
  bool resets, announced, streams;
};

TEST(http_server, a_client_that_leaves_is_noticed_in_each_state_once) {
  TestServer server;
  for (const Leaving& leaving : std::vector<Leaving>{{false, false, false},
                                                     {false, true, false},
                                                     {false, true, true},
                                                     {true, false, false},
                                                     {true, true, false},
                                                     {true, true, true}}) {
    HttpClient client = server.client();
    client.send(kHeld);
    const auto exchange = server.handler.held();
    Gone gone;
    exchange->on_gone(gone.count());
    if (leaving.announced) exchange->expect_stream();
    if (leaving.streams) {
      exchange->send("data: 1\n\n");
      client.read_to("data: 1\n\n\r\n");
    }
    EXPECT_EQ(gone.times, 0);
    leaving.resets ? client.reset() : client.close();
    EXPECT_TRUE(comes([&] { return gone.times == 1; })) << leaving.resets << leaving.announced << leaving.streams;
    EXPECT_FALSE(exchange->send("data: 2\n\n"));
    exchange->finish();
    Gone late;
    exchange->on_gone(late.count());
    EXPECT_EQ(late.times, 1) << "who asks after it is told at once";
    EXPECT_EQ(gone.times, 1);
  }
  EXPECT_TRUE(comes([&] { return server.counts().connections == 0; }));
}

TEST(http_server, who_left_before_the_handler_was_asked_is_noticed_too) {
  TestServer server;
  HttpClient client = server.client();
  client.send(kHeld);
  client.close();
  const auto exchange = server.handler.held();
  Gone gone;
  exchange->on_gone(gone.count());
  EXPECT_TRUE(comes([&] { return gone.times == 1; }));
}

TEST(http_server, a_client_that_has_sent_its_end_is_answered) {
  TestServer server;
  HttpClient client = server.client();
  client.send(kHeld);
  client.send_end();
  auto exchange = server.handler.held();
  Gone gone;
  exchange->on_gone(gone.count());
  EXPECT_EQ(client.read_to("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n") << "which a client that is gone would have reset";
  EXPECT_FALSE(client.more(50ms));
  exchange->respond({.body = "yes"});
  EXPECT_EQ(client.response().body, "yes");
  EXPECT_EQ(client.read_all(), "");
  EXPECT_EQ(gone.times, 0);

  HttpClient stream = server.client();
  stream.send(kHeld);
  exchange = server.handler.held();
  exchange->on_gone(gone.count());
  exchange->send("data: 1\n\n");
  stream.read_to("data: 1\n\n\r\n");
  stream.send_end();
  EXPECT_EQ(stream.chunk(), ": ping\n\n");
  EXPECT_TRUE(exchange->send("data: 2\n\n"));
  exchange->finish();
  EXPECT_EQ(stream.chunk(), "data: 2\n\n");
  EXPECT_EQ(stream.chunk(), "");
  EXPECT_EQ(stream.read_all(), "");
  EXPECT_EQ(gone.times, 0);

  HttpClient old = server.client();
  old.send("POST /held HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
  old.send_end();
  exchange = server.handler.held();
  EXPECT_FALSE(old.more(50ms)) << "HTTP/1.0 knows no interim response";
  exchange->respond({.body = "yes"});
  EXPECT_THAT(old.read_all().value_or("open"), StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST(http_server, nobody_is_told_that_a_client_is_gone_that_was_answered) {
  TestServer server;
  HttpClient client = server.client();
  client.send(kHeld);
  const auto exchange = server.handler.held();
  Gone gone;
  exchange->on_gone([exchange, count = gone.count()] { count(); });  // holds its own exchange: dropped with the answer
  exchange->respond({.body = "yes"});
  EXPECT_EQ(client.response().body, "yes");
  client.reset();
  EXPECT_TRUE(comes([&] { return server.counts().connections == 0; }));
  EXPECT_EQ(gone.times, 0);
}

TEST(http_server, a_client_that_does_not_read_is_gone_when_too_much_is_held_for_it) {
  TestServer server({.limits = {.held_bytes = 100'000}});
  HttpClient client(server.port(), 4096);
  client.send(kHeld);
  const auto exchange = server.handler.held();
  Gone gone;
  exchange->on_gone(gone.count());
  const std::string event = "data: " + std::string(5000, 'x') + "\n\n";
  int sent = 0;
  while (sent < 10'000 && exchange->send(event)) ++sent;
  EXPECT_GE(sent, 100'000 / 5008) << "that much is held";
  EXPECT_LT(sent, 10'000) << "the system's buffers hold some MB";
  EXPECT_EQ(gone.times, 1);
  EXPECT_TRUE(comes([&] { return server.refused("slow_reader") == 1 && server.counts().connections == 0; }));
}

TEST(http_server, a_client_that_takes_nothing_of_its_answer_is_closed) {
  TestServer server({.limits = {.write = 50ms}});
  HttpClient client(server.port(), 4096);
  client.send_post("/held", "{}");
  server.handler.held()->respond({.body = std::string(50'000'000, 'x')});
  EXPECT_TRUE(comes([&] { return server.refused("slow_reader") == 1 && server.counts().connections == 0; }));
}

TEST(http_server, a_slow_client_that_reads_has_all_of_a_large_answer) {
  TestServer server;
  HttpClient client(server.port(), 4096);
  const std::string body(5'000'000, 'x');
  client.send_post("/held", "{}");
  server.handler.held()->respond({.body = body});
  EXPECT_EQ(client.response().body, body);
}

TEST(http_server, an_exchange_outlives_its_server) {
  std::shared_ptr<Exchange> exchange;
  Gone gone;
  {
    TestServer server;
    HttpClient client = server.client();
    client.send(kHeld);
    exchange = server.handler.held();
    exchange->on_gone(gone.count());
  }
  EXPECT_EQ(gone.times, 1);
  EXPECT_FALSE(exchange->send("data: 1\n\n"));
  exchange->fail({}, "");
}

TEST(http_server, several_threads_serve_many_clients_with_whole_answers_and_streams) {
  TestServer server({.threads = 3});
  std::atomic<bool> ends = false;
  std::thread answers([&] {
    while (!ends) {
      const auto exchange = server.handler.next(10ms);
      if (!exchange) continue;
      exchange->expect_stream();
      for (int i = 0; i < 20; ++i) exchange->send("data: " + std::to_string(i) + "\n\n");
      exchange->finish();
    }
  });
  std::string expected;
  for (int i = 0; i < 20; ++i) expected += "data: " + std::to_string(i) + "\n\n";
  std::vector<std::thread> clients;
  std::atomic<int> right = 0;
  for (int c = 0; c < 4; ++c) {
    clients.emplace_back([&, c] {
      HttpClient client = server.client();
      for (int i = 0; i < 25; ++i) {
        const std::string body = std::to_string(c * 100 + i);
        if (client.post("/echo", body).body == body) ++right;
        if (client.post("/held", "{}").body == expected) ++right;
        HttpClient leaving = server.client();
        leaving.send(kHeld);
      }
    });
  }
  for (std::thread& client : clients) client.join();
  ends = true;
  answers.join();
  EXPECT_EQ(right, 4 * 25 * 2);
}

}  // namespace
}  // namespace tessera::server
