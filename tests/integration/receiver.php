<?php
// A vendor written in PHP, as the real ones may be: it takes the upload with PHP's own means and writes down what it read.
// The folder to write to is in the environment, so that no request can choose it.
$kept = getenv('RELAY_TEST_FOLDER');

if (str_ends_with($_SERVER['SCRIPT_NAME'], 'authenticate/login') || str_ends_with($_SERVER['REQUEST_URI'], 'authenticate/login')) {
    echo json_encode(['accessToken' => 'php-token']);
    return true;
}

[$part, $upload] = [array_key_first($_FILES), $_FILES[array_key_first($_FILES)]];
$text = mb_convert_encoding(file_get_contents($upload['tmp_name']), 'UTF-8', 'SJIS-win');

$lines = fopen('php://memory', 'w+');
fwrite($lines, $text);
rewind($lines);
$records = [];
while (($record = fgetcsv($lines, null, ',', '"', '')) !== false) {
    $records[] = $record;
}

file_put_contents("$kept/read.json", json_encode([
    'path' => $_SERVER['REQUEST_URI'],
    'fields' => $_POST,
    'part' => $part,
    'error' => $upload['error'],
    'type' => $upload['type'],
    'name' => $upload['name'],
    'bytes' => $upload['size'],
    'valid' => mb_check_encoding(file_get_contents($upload['tmp_name']), 'SJIS-win'),
    'records' => $records,
], JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE));
echo json_encode(['success' => (string) (count($records) - 1), 'failure' => '0']);
return true;
