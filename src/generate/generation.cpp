#include "generate/generation.h"

#include <deque>
#include <exception>
#include <limits>
#include <vector>

namespace tessera {
namespace {

constexpr int64_t kAnyDraft = std::numeric_limits<int64_t>::max();

// A Generation on its way.
struct Going {
  explicit Going(Generation& generation)
      : asked(generation),
        course(generation.sampler, {.max_new_tokens = generation.max_new_tokens,
                                    .prompt = generation.prompt.value_or(generation.sequence.tokens.size()),
                                    .sample = generation.sample,
                                    .drafter = generation.drafter,
                                    .max_draft = generation.max_draft,
                                    .constraint = generation.constraint ? generation.constraint->fork() : nullptr}) {}
  Generation& asked;
  Course course;
};

}  // namespace

void generate(Generator& generator, std::span<Generation> generations, const Generator::Progress& progress) {
  std::deque<Going> all(generations.begin(), generations.end());
  for (;;) {
    std::vector<Going*> going;
    std::vector<Course*> courses;
    for (Going& one : all) {
      if (one.course.ended()) continue;
      going.push_back(&one);
      courses.push_back(&one.course);
    }
    if (going.empty()) return;
    std::vector<Generator::Request> requests;
    requests.reserve(going.size());
    std::exception_ptr error;
    try {
      for (Going* const one : going) requests.push_back(one->course.propose(generator, one->asked.sequence, kAnyDraft));
      const auto tell = [&](LogitRows& rows) {
        choose_by_rows(generator.device(), rows, courses, requests);
        for (size_t i = 0; i < going.size(); ++i) {
          const auto& goes_on = going[i]->asked.goes_on;
          going[i]->course.tell([&](const NewToken& token) { return !goes_on || goes_on(token); });
        }
      };
      generator.forward_rows(requests, tell, progress);
    } catch (...) {
      error = std::current_exception();
    }
    for (size_t i = 0; i < requests.size(); ++i) {
      going[i]->course.settle(generator.cache(), going[i]->asked.sequence);
      going[i]->asked.drafted = going[i]->course.drafted();
      going[i]->asked.accepted = going[i]->course.accepted();
    }
    for (const Generator::Request& request : requests)
      if (!error) error = request.error;
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace tessera
