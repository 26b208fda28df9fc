// The pages' modules: browsers' names only, no text parsed as HTML, nothing left unused; and their tests.

import js from "@eslint/js";
import globals from "globals";

const HTML = ["innerHTML", "outerHTML", "insertAdjacentHTML", "setHTMLUnsafe"];

export default [
  js.configs.recommended,
  {
    files: ["app/web/js/**/*.js"],
    languageOptions: { ecmaVersion: 2022, sourceType: "module", globals: globals.browser },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "eqeqeq": "error",
      "max-len": ["error", { code: 110 }],
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-restricted-properties": ["error", ...HTML.map((property) => ({ property,
        message: "What a model writes is hostile: build elements with h(), text as text." }))],
      "no-restricted-syntax": ["error",
        { selector: "ImportExpression, ExportDefaultDeclaration, ExportAllDeclaration, ImportNamespaceSpecifier,"
          + " ImportDefaultSpecifier, ExportNamedDeclaration[declaration=null]",
        message: "Use import { name } and export before a declaration: exported pages are put together from these." }],
      "no-shadow": ["error", { builtinGlobals: false, hoist: "functions" }],
      "no-unused-vars": ["error", { args: "none", ignoreRestSiblings: true }],
      "no-use-before-define": ["error", { functions: false, classes: false, variables: false }],
      "no-var": "error",
      "object-shorthand": "error",
      "prefer-const": ["error", { destructuring: "all" }],
      // Tokens hold control characters and joiners, which are looked for.
      "no-control-regex": "off",
      "no-misleading-character-class": "off",
    },
  },
  {
    files: ["tests/web/*.mjs"],
    languageOptions: { ecmaVersion: 2022, sourceType: "module", globals: { ...globals.browser, ...globals.node } },
    rules: { "eqeqeq": "error", "no-var": "error", "prefer-const": ["error", { destructuring: "all" }] },
  },
];
