#include "server/service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "served.h"

namespace tessera::server {
namespace {

using testing::HasSubstr;

TEST(service, clients_that_come_and_go_change_no_answer) {
  Served served;
  std::vector<std::string> alone;
  for (int seed = 0; seed < 6; ++seed) alone.push_back(choices(served.client().post(kPath, body(20, seed))));
  ASSERT_THAT(alone[0], HasSubstr("length"));
  ASSERT_NE(alone[0], alone[1]);
  std::atomic<int> right = 0;
  std::vector<std::thread> clients;
  for (int number = 0; number < 8; ++number)
    clients.emplace_back([&, number] {
      for (int turn = 0; turn < 12; ++turn) {
        const int seed = (number + turn) % 6;
        HttpClient client = served.client();
        if (turn % 3 == 2) {
          client.send_post(kPath, body(200, seed, true));
          if (turn % 2 == 0) client.read_to("data: ");
          number % 2 == 0 ? client.reset() : client.close();
        } else {
          right += choices(client.post(kPath, body(20, seed))) == alone[static_cast<size_t>(seed)];
        }
      }
    });
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(right, 8 * 8);
  EXPECT_TRUE(served.service.wait_until_idle(kPatience));
  served.wait_for("num_requests_running", 0);
}

TEST(service, an_engine_that_fails_answers_everybody_and_says_so) {
  Served served;
  served.device->steps = 3;
  std::vector<HttpClient> streams, wholes;
  streams.push_back(served.client());
  streams.back().send_post(kPath, body(200, 1, true));
  EXPECT_THAT(streams.back().read_to("data: "), HasSubstr("200 OK"));
  for (int i = 0; i < 6; ++i) {
    streams.push_back(served.client());
    streams.back().send_post(kPath, body(200, i, true));
    wholes.push_back(served.client());
    wholes.back().send_post(kPath, body(200, i));
  }
  served.wait_until_all_are_in(13);
  served.device->fails = true;
  for (size_t i = 0; i < streams.size(); ++i) {
    const std::string rest = streams[i].read_all().value_or("it stays open");
    EXPECT_NE(rest.find("\"error\""), std::string::npos);
    EXPECT_EQ(rest.find("deadbeef"), std::string::npos) << "what the device says is for the log";
    EXPECT_EQ(rest.starts_with("HTTP/1.1 503"), i > 0) << "a stream that has begun is told by an event, another by its status";
  }
  for (HttpClient& whole : wholes) {
    const ClientResponse response = whole.response();
    EXPECT_EQ(response.status, 503) << response.body;
    EXPECT_THAT(response.body, testing::Not(HasSubstr("deadbeef")));
  }
  EXPECT_TRUE(served.service.wait_until_idle(kPatience));
  for (int i = 0; i < 20'000 && !served.has_failed; ++i) std::this_thread::sleep_for(1ms);
  EXPECT_TRUE(served.has_failed);
  for (const char* path : {"/health", "/ready", "/v1/models"}) EXPECT_EQ(served.get(path).status, 503) << path;
  EXPECT_EQ(served.client().post(kPath, body(1, 1)).status, 503);
  EXPECT_EQ(served.get("/metrics").status, 200);
}

TEST(service, what_runs_ends_within_a_drain_and_what_comes_is_refused) {
  Served served;
  served.device->steps = 0;
  HttpClient running = served.client();
  running.send_post(kPath, body(5, 1));
  served.wait_for("num_requests_running", 1);
  served.service.drain();
  EXPECT_EQ(served.get("/ready").status, 503);
  EXPECT_EQ(served.get("/health").status, 200);
  const ClientResponse refused = served.client().post(kPath, body(1, 1));
  EXPECT_EQ(refused.status, 503);
  EXPECT_THAT(refused.head, HasSubstr("Retry-After: "));
  EXPECT_FALSE(served.service.wait_until_idle(10ms));
  served.device->steps = kAll;
  EXPECT_EQ(running.response().status, 200);
  EXPECT_TRUE(served.service.wait_until_idle(kPatience));
}

TEST(service, all_that_runs_can_be_ended) {
  Served served;
  std::vector<HttpClient> streams;
  served.device->steps = 0;
  for (int i = 0; i < 8; ++i) {  // twice as many as run at a time
    streams.push_back(served.client());
    streams.back().send_post(kPath, body(250, i, true));
  }
  served.wait_until_all_are_in(8);
  served.service.drain();
  served.service.end_all("it is over");
  served.device->steps = kAll;
  for (HttpClient& stream : streams) EXPECT_THAT(stream.read_all().value_or("it stays open"), HasSubstr("it is over"));
  EXPECT_TRUE(served.service.wait_until_idle(kPatience));
}

TEST(service, who_asks_behind_its_end_is_answered_too) {
  Served served;
  EXPECT_EQ(served.client().post(kPath, body(1, 1)).status, 200);
  served.service.drain();
  served.service.close();
  EXPECT_EQ(served.get("/ready").status, 503);
  EXPECT_EQ(served.get("/health").status, 200);
  EXPECT_EQ(served.get("/metrics").status, 200);
  EXPECT_EQ(served.client().post(kPath, body(1, 1)).status, 503);
}

TEST(service, a_key_s_place_is_free_when_its_answer_has_come) {
  ServiceOptions options{.most_of_a_key = 1};
  options.keys.add("a", "key");
  Served served(std::move(options));
  const std::string content = body(1, 1);
  const std::string request = "POST " + kPath +
                              " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nx-api-key: key\r\nContent-Length: " +
                              std::to_string(content.size()) + "\r\n\r\n" + content;
  HttpClient client = served.client();
  for (int i = 0; i < 300; ++i) {
    client.send(request);
    ASSERT_EQ(client.response().status, 200) << i;
  }
}

TEST(service, the_chat_page_is_open_to_those_without_a_key_and_compressed_for_who_takes_it) {
  ServiceOptions options;
  options.keys.add("a", "key");
  Served served(std::move(options));
  const auto get = [&](const std::string& path, const std::string& headers) {
    HttpClient client = served.client();
    client.send("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n");
    return client.response();
  };
  for (const std::string path : {"/", "/status", "/chat.css", "/chat.js"}) {
    const ClientResponse plain = get(path, "");
    EXPECT_EQ(plain.status, 200) << path;
    EXPECT_THAT(plain.head, HasSubstr("require-trusted-types-for 'script'")) << path;
    EXPECT_THAT(plain.head, testing::Not(HasSubstr("Content-Encoding"))) << path;
    for (const char* none : {"gzip;q=0", "gzip; q=0.0", "br", "xgzip"})
      EXPECT_EQ(get(path, std::string("Accept-Encoding: ") + none + "\r\n").body, plain.body) << path << none;
    const ClientResponse gzipped = get(path, "Accept-Encoding: br;q=1, gzip;q=0.5\r\n");
    EXPECT_THAT(gzipped.head, HasSubstr("Content-Encoding: gzip\r\n")) << path;
    EXPECT_TRUE(gzipped.body.starts_with("\x1f\x8b")) << path;
    EXPECT_LT(gzipped.body.size(), plain.body.size()) << path;
    const size_t tag = plain.head.find("ETag: ") + 6;
    const std::string known = plain.head.substr(tag, plain.head.find('\r', tag) - tag);
    const ClientResponse unchanged = get(path, "If-None-Match: " + known + "\r\n");
    EXPECT_EQ(unchanged.status, 304) << path;
    EXPECT_EQ(unchanged.body, "") << path;
    EXPECT_EQ(get(path, "If-None-Match: W/\"0\"\r\n").status, 200) << path;
  }
  EXPECT_EQ(get("/chat.html", "").status, 401);
  EXPECT_EQ(served.client().post("/", "{}").status, 405);
}

}  // namespace
}  // namespace tessera::server
