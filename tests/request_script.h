#pragma once
// A seeded script of requests of every kind, which arrive and are cancelled while others run; and what each is given when it is alone, by a
// loop without scheduler, batch or course.
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "generate/scheduler.h"

namespace tessera {

struct Scripted {
  ScheduledRequest request;               // its callbacks are run_script's
  int64_t arrives = 0;                    // before this step
  std::optional<int64_t> cancelled = {};  // before this step
  size_t stop_after = 0;                  // on_token ends each sample with so many tokens; 0: it does not
};

struct ScriptOptions {
  size_t requests;
  uint32_t seed;
  TokenId vocab;
  size_t stem;      // tokens that prompts begin with in common, at most
  size_t tail;      // tokens of their own behind these, at most
  size_t most_new;  // tokens of an answer
};

// What may come next depends on all that has come: all tokens, every other, three, one, or all but a few; behind `longest` nothing may, and
// an error is thrown.
std::shared_ptr<TokenConstraint> scripted_constraint(uint32_t seed, TokenId vocab, size_t longest);

std::vector<Scripted> make_script(const ScriptOptions& options);

// What one sample of a request was given.
struct Given {
  std::vector<TokenId> ids;
  std::vector<double> logprobs;         // of each token in turn: its own, its rank, and the ids and values of the top
  std::vector<double> prompt_logprobs;  // the same of the prompt's tokens
  std::optional<ScheduledRequest::End> end = {};
  int ends = 0;
};

// The logits of the last `rows` tokens of a text of which all is known.
using RowsOfText = std::function<std::vector<std::vector<float>>(std::span<const TokenId> text, size_t rows)>;

std::vector<Given> run_alone(const Scripted& scripted, const RowsOfText& rows);

// By request, by sample. `before_step` and `after_step` are called with the number of each step.
using AtStep = std::function<void(int64_t step)>;
std::vector<std::vector<Given>> run_script(Scheduler& scheduler, const std::vector<Scripted>& script, const AtStep& before_step = {},
                                           const AtStep& after_step = {});

// Each sample was given what it is given alone; one that was cancelled, the beginning of it.
void expect_as_alone(const std::vector<Scripted>& script, const std::vector<std::vector<Given>>& given,
                     const std::vector<std::vector<Given>>& alone);

// All have ended: no page and no sequence is lost, and nothing is counted as waiting or running.
void expect_nothing_left(const Scheduler& scheduler, const Cache& cache);

}  // namespace tessera
