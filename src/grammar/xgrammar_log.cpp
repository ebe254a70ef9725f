#include "grammar/xgrammar_log.h"

#include <stdexcept>

namespace tessera::grammar {
namespace {

thread_local std::vector<std::string>* t_warnings = nullptr;

constexpr int kWarning = 2;  // xgrammar's level

}  // namespace

Warnings::Warnings() { t_warnings = &texts_; }
Warnings::~Warnings() { t_warnings = nullptr; }

}  // namespace tessera::grammar

// What xgrammar's sources call where XGRAMMAR_LOG_CUSTOMIZE is set.
namespace xgrammar {

[[noreturn]] void LogFatalImpl(const std::string& file, int line, const std::string& message);
void LogMessageImpl(const std::string& file, int line, int level, const std::string& message);

void LogFatalImpl(const std::string&, int, const std::string& message) { throw std::runtime_error(message); }

void LogMessageImpl(const std::string&, int, int level, const std::string& message) {
  constexpr size_t kMost = 8;
  if (level == tessera::grammar::kWarning && tessera::grammar::t_warnings && tessera::grammar::t_warnings->size() < kMost)
    tessera::grammar::t_warnings->push_back(message);
}

}  // namespace xgrammar
