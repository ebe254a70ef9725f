#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <thread>
#include <utility>

#include "api/answering.h"
#include "cli/arguments.h"
#include "cli/chat_flags.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/report.h"
#include "cli/session.h"
#include "cli/terminal.h"
#include "core/error.h"
#include "generate/scheduler.h"
#include "grammar/grammar_compiler.h"
#include "grammar/schema_caps.h"
#include "server/service.h"

namespace tessera {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// `tessera serve`: a checkpoint as a service over HTTP.
struct ServeOptions {
  ModelFlags model;
  CacheFlags cache;
  SamplingFlags sampling;
  ChatFlags chat;
  std::optional<int64_t> new_tokens;
  server::HttpOptions http;
  std::vector<std::string> names;
  std::optional<std::string> api_key_file;
  bool insecure = false, no_special_in_prompt = false, quiet = false;
  int64_t max_waiting = 1024, most_of_a_key = 0;
  int64_t drain_timeout = 30, request_timeout = 600, queue_timeout = 600;  // seconds
};

constexpr auto kLastWords = seconds(5);  // in which answers are written when all ends
constexpr auto kFailed = seconds(1);     // in which who asks is told that the engine has failed

// SIGINT and SIGTERM, taken one after the other by a thread.
class Signals {
 public:
  Signals() {
    check<std::runtime_error>(::pipe2(pipe_.data(), O_CLOEXEC) == 0, "no pipe for signals: ", std::strerror(errno));
    writing_end = pipe_[1];
    struct sigaction action{};
    action.sa_handler = [](int number) {
      const int error = errno;
      const char byte = static_cast<char>(number);
      static_cast<void>(!::write(writing_end, &byte, 1));
      errno = error;
    };
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < kNumbers.size(); ++i) sigaction(kNumbers[i], &action, &before_[i]);
  }
  ~Signals() {
    for (size_t i = 0; i < kNumbers.size(); ++i) sigaction(kNumbers[i], &before_[i], nullptr);
    ::close(pipe_[0]);
    ::close(pipe_[1]);
  }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  // 0: end() was called.
  int wait() const {
    char byte = 0;
    while (::read(pipe_[0], &byte, 1) < 0 && errno == EINTR) {
    }
    return byte;
  }
  void end() const {
    const char byte = 0;
    static_cast<void>(!::write(pipe_[1], &byte, 1));
  }

 private:
  static constexpr std::array kNumbers{SIGINT, SIGTERM};
  static inline int writing_end = -1;
  std::array<int, 2> pipe_{};
  std::array<struct sigaction, kNumbers.size()> before_{};
};

bool is_loopback(const std::string& address) { return address.starts_with("127.") || address == "::1" || address == "localhost"; }

server::ApiKeys read_keys(const ServeOptions& options) {
  if (options.api_key_file) return server::ApiKeys::from_file(*options.api_key_file);
  const char* const key = std::getenv("TESSERA_API_KEY");
  return key != nullptr && *key != '\0' ? server::ApiKeys::of(key) : server::ApiKeys();
}

// An id as it is, a folder by its last name.
std::string served_name(const std::string& model) {
  const std::filesystem::path path = std::filesystem::path(model).lexically_normal();
  if (!std::filesystem::exists(path)) return model;
  const std::filesystem::path whole = std::filesystem::absolute(path).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

// Without a generation config, what OpenAI's API says.
SamplingOptions default_sampling(const ServeOptions& options) {
  SamplingOptions sampling = sampling_options(options.sampling);
  if (options.model.generation_config != "none") return sampling;
  if (!sampling.temperature) sampling.temperature = 1.0;
  if (!sampling.top_k) sampling.top_k = 0;
  return sampling;
}

class Server {
 public:
  explicit Server(const ServeOptions& options)
      : options_(options),
        service_({.keys = keys_of(options),
                  .most_of_a_key = options.most_of_a_key,
                  .request_timeout = seconds(options.request_timeout),
                  .queue_timeout = seconds(options.queue_timeout),
                  .log = options.quiet ? [](const std::string&) {} : [](const std::string& line) { tell(line); }}),
        http_(http_options(options), service_),
        listener_([this] { http_.run(); }),
        watcher_([this] { watch(); }) {
    service_.count_refusals([this] { return http_.counts().refused; });
    tell(message("listening on http://", options.http.address, ":", http_.port(), "; loading ", options.model.model));
  }
  ~Server() {
    signals_.end();
    watcher_.join();
    if (drainer_.joinable()) drainer_.join();
    http_.stop(kLastWords);
    listener_.join();
  }

  int run() {
    Session session(options_.model, options_.cache, open_device(options_.model, [this](const std::string& why) { leave(why); }));
    api::ServedModel model(session,
                           {.names = names(),
                            .sampling = default_sampling(options_),
                            .new_tokens = options_.new_tokens,
                            .special_in_prompt = !options_.no_special_in_prompt,
                            .conversation = conversation_options(options_.chat),
                            .enforceable = [this](const std::string& schema, size_t bytes) { return is_enforceable(schema, bytes); }});
    GrammarCompiler compiler({model.tokenizer(), model.vocab_size(), model.end_tokens(), api::mark_ids(model.format())},
                             {.command = grammar_worker_command()});
    model.set_compile([&compiler](const GrammarSource& source, const std::string& asker) {
      return std::shared_ptr<const TokenConstraint>(constraint(compiler.compile(source, asker)));
    });
    Scheduler scheduler(session.generator(), {.budget = options_.cache.max_num_batched_tokens, .max_waiting = options_.max_waiting});
    {
      const std::lock_guard lock(mutex_);
      SignalWatch::expect_none();
      scheduler_ = &scheduler;
      service_.open(model, scheduler);
      was_ready_ = true;
    }
    tell(message("ready: ", model.name(), ", loaded in ", format("%.1f s", session.load_seconds())));
    int code = 0;
    try {
      scheduler.run();
    } catch (const DeviceError& error) {  // what would end in order waits for the device
      leave(error.what());
    } catch (const std::exception& error) {
      tell(message("the engine has failed: ", error.what()));
      fail("the engine has failed; the server is ending");
      code = 1;
    }
    service_.wait_until_idle(kLastWords);
    service_.close();
    const std::lock_guard lock(mutex_);
    scheduler_ = nullptr;
    return code;
  }

 private:
  static server::ApiKeys keys_of(const ServeOptions& options) {
    server::ApiKeys keys = read_keys(options);
    check(!keys.empty() || options.insecure || is_loopback(options.http.address), "--host ", options.http.address,
          ": others reach this address: give --api-key-file or TESSERA_API_KEY, or --insecure");
    return keys;
  }

  static server::HttpOptions http_options(const ServeOptions& options) {
    server::HttpOptions http = options.http;
    http.check_hosts = is_loopback(http.address) || options.insecure;
    return http;
  }

  // A tool's schema, of an asker's.
  bool is_enforceable(const std::string& schema, size_t bytes) const {
    const std::optional<std::string> why_not =
        bytes > api::kMostSchemaBytes ? message("the schemas of its request's tools have more than ", api::kMostSchemaBytes, " bytes")
                                      : unenforced(schema);
    if (why_not && !options_.quiet) tell(message("a tool's arguments are held to a JSON object alone: ", *why_not));
    return !why_not;
  }

  std::vector<std::string> names() const {
    return options_.names.empty() ? std::vector{served_name(options_.model.model)} : options_.names;
  }

  // The first signal drains; before the model is loaded, it ends the loading.
  void watch() {
    while (const int number = signals_.wait()) {
      SignalWatch::note(number);  // a second one leaves
      service_.drain();
      const std::lock_guard lock(mutex_);
      if (scheduler_ == nullptr) continue;
      tell(message("ending: what runs has ", options_.drain_timeout, " s"));
      drainer_ = std::thread([this] { drain(); });
    }
  }

  void drain() {
    if (!service_.wait_until_idle(seconds(options_.drain_timeout))) {
      service_.end_all("the server has ended before the answer");
      service_.wait_until_idle(kLastWords);
    }
    const std::lock_guard lock(mutex_);
    if (scheduler_ != nullptr) scheduler_->stop();
  }

  void fail(const std::string& why) {
    service_.fail(why);
    service_.wait_until_idle(kLastWords);
    std::this_thread::sleep_for(kFailed);
  }

  // The device does not answer any more: the thread that asked it, whose time is over or who was told so by its device, or both.
  [[noreturn]] void leave(const std::string& why) {
    leaving_.lock();  // for ever: the first one leaves
    tell(why);
    if (!was_ready_) std::_Exit(kDeviceLost);
    fail("the device does not answer any more; the server is ending");
    http_.stop(kLastWords);
    listener_.join();
    std::_Exit(1);
  }

  const ServeOptions& options_;
  const SignalWatch watch_;
  const Signals signals_;
  std::mutex mutex_, leaving_;
  Scheduler* scheduler_ = nullptr;
  std::atomic<bool> was_ready_ = false;
  server::Service service_;
  server::HttpServer http_;
  std::thread listener_, watcher_, drainer_;
};

int serve(const ServeOptions& options) { return Server(options).run(); }

}  // namespace

void add_serve(CLI::App& app, int& code) {
  CLI::App& command = *app.add_subcommand("serve", "Answer requests over HTTP: OpenAI's and Anthropic's APIs");
  const auto options = std::make_shared<ServeOptions>();
  command.callback([options, &code] { code = serve(*options); });
  command.footer(
      "SIGTERM lets running answers end, within --drain-timeout; new requests are refused meanwhile with 503 and Retry-After. A second one "
      "ends at once.\n"
      "Routes: /v1/chat/completions, /v1/completions, /v1/responses, /v1/messages, /v1/models, /tokenize, /detokenize, /health, /ready, "
      "/metrics; docs/serving.md has them all.");
  add_model_flags(command, options->model);
  command.option_defaults()->group("Serving");
  command
      .add_option("--host", options->http.address, "The address to listen at; another than this machine's own needs a key or --insecure")
      ->type_name("ADDRESS")
      ->capture_default_str();
  command.add_option("--port", options->http.port, "0: any that is free")->transform(whole_number(0, 65535))->capture_default_str();
  command.add_option("--served-model-name", options->names, "What requests call the model; may be given several times")->type_name("NAME");
  command.add_option("--api-key-file", options->api_key_file, "Keys, a line NAME:KEY each; TESSERA_API_KEY holds a single one")
      ->type_name("FILE");
  command.add_flag("--insecure", options->insecure, "Listen at any address without a key");
  command.add_option("--allowed-host", options->http.allowed_hosts, "A name beside localhost by which requests may call this server")
      ->type_name("NAME");
  command.add_option("--cors-origin", options->http.cors_origins, "An origin whose pages may ask, as in https://example.org")
      ->type_name("ORIGIN");
  command.add_option("--max-waiting", options->max_waiting, "Requests in the queue; 503 beyond")->transform(whole_number(1, 1 << 20));
  command.add_option("--max-requests-per-key", options->most_of_a_key, "Requests of one key at a time; 429 beyond")
      ->transform(whole_number(1, 1 << 20));
  command.add_option("--drain-timeout", options->drain_timeout, "Seconds that running answers have after SIGTERM")
      ->transform(whole_number(0, 86400));
  command.add_option("--request-timeout", options->request_timeout, "Seconds that a request may take")->transform(whole_number(1, 86400));
  command.add_option("--queue-timeout", options->queue_timeout, "Seconds that a request may wait in the queue")
      ->transform(whole_number(1, 86400));
  command.add_flag("--no-special-in-prompt", options->no_special_in_prompt,
                   "Names of special tokens are plain text in /v1/completions and /tokenize too");
  command.add_flag("--quiet", options->quiet, "No line for each request");
  command.option_defaults()->group("Options");
  add_new_tokens_flag(command, options->new_tokens, 0, "New tokens at most where a request does not say");
  add_cache_flags(command, options->cache);
  add_chat_flags(command, options->chat, nullptr);
  add_sampling_flags(command, options->sampling, options->model.generation_config);
}

}  // namespace tessera
