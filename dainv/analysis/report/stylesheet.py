"""How the report looks: on a desk, on a phone, in the dark and on paper."""

STYLESHEET = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1a1a1a; --soft: #5c5c5c; --line: #d9d9d9; --wash: #f5f5f2; --doubt: #8a4b00;
  --link: #00609c;
}
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #161616; --ink: #dddddd; --soft: #a3a3a3; --line: #3a3a3a; --wash: #202020; --doubt: #f0b060;
    --link: #6dbdf0; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 56rem; background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.55 Charter, "Bitstream Charter", "Iowan Old Style", "Palatino Linotype", Georgia, serif;
}
h1, h2, h3 { line-height: 1.2; font-weight: 600; text-wrap: balance; }
h1 { font-size: 1.85rem; margin: 0 0 .4rem; }
h2 { font-size: 1.3rem; margin: 2.8rem 0 .8rem; padding-top: .9rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .4rem; }
p, ul { margin: .6rem 0; }
p, ul, figcaption { max-width: 46rem; }
.lead { color: var(--soft); margin: 0 0 .6rem; }
a { color: var(--link); }
.downloads { margin: 0 0 1.6rem; }
.downloads small { color: var(--soft); }
.findings section { display: grid; grid-template-columns: 8.5rem 1fr; gap: 0 1.5rem; padding: .9rem 0;
  border-top: 1px solid var(--line); }
.findings h2 { font-size: 1.0625rem; margin: 0; padding: 0; border: 0; line-height: 1.55; }
.findings ul { list-style: none; margin: 0; padding: 0; }
.findings li + li { margin-top: .6rem; }
.doubts { border-left: 3px solid var(--doubt); padding: .1rem 0 .1rem 1rem; margin: 1.2rem 0; }
.doubts strong { color: var(--doubt); }
figure { margin: 1.8rem 0; }
figure img { display: block; width: 100%; height: auto; }
figcaption, .note, .downloads, .findings h2, table, dl, summary {
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; font-size: .875rem;
}
table { font-size: .8125rem; }
figcaption, .note { color: var(--soft); line-height: 1.5; }
figcaption b { color: var(--ink); }
.scroll { overflow-x: auto; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
details { margin: .9rem 0; }
summary { cursor: pointer; font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; line-height: 1.35; }
th, td { padding: .28rem .45rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-weight: 600; vertical-align: bottom; }
thead th { border-bottom: 1px solid var(--ink); white-space: normal; }
th:first-child { text-align: left; padding-left: 0; position: sticky; left: 0; background: var(--paper); }
tbody th:first-child { white-space: normal; min-width: 2.5rem; max-width: 18rem; }
tbody th { font-weight: 400; }
td:last-child, th:last-child { padding-right: 0; }
th button { all: unset; cursor: pointer; }
th button:hover { text-decoration: underline; text-underline-offset: .2em; }
th[aria-sort="descending"] button::after { content: " ▾"; }
th[aria-sort="ascending"] button::after { content: " ▴"; }
td small { color: var(--soft); font-size: 1em; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.2rem; margin: .6rem 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: .85em; overflow-wrap: anywhere; }
.equation { text-align: center; margin: 1.2rem 0; font-size: 1.1rem; white-space: nowrap; overflow-x: auto; }
.fraction { display: inline-block; vertical-align: middle; text-align: center; padding: 0 .2em; }
.fraction span { display: block; padding: .1em .3em; }
.fraction span:first-child { border-bottom: 1px solid; }
@media (max-width: 40rem) {
  body { padding: 1.5rem 1rem 3rem; font-size: 1rem; }
  h1 { font-size: 1.5rem; }
  .findings section { grid-template-columns: 1fr; }
  figure img { width: 38rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; }
}
@media print {
  .downloads { display: none; }
  details::details-content { content-visibility: visible; display: block; }
  summary { list-style: none; }
  @page { margin: 18mm 16mm; }
  body { padding: 0; max-width: none; font-size: 10.5pt; }
  h2, h3 { break-after: avoid; }
  figure, table, .equation { break-inside: avoid; }
  .scroll, .equation { overflow: visible; }
  figure { margin: 1rem 0; }
  figure img { width: 72%; margin: 0 auto; }
  figcaption, .note { font-size: 8.5pt; }
  table, dl { font-size: 8pt; }
}
"""
